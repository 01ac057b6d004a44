package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// prove does in empty folders what a new user does: the program of the page "Getting started" is
// built and its test run, each module is required by a program of its own, and commands are
// installed. Nothing but the proxy has the modules.
func (r *release) prove(ctx context.Context) error {
	if err := r.proveProgram(ctx); err != nil {
		return err
	}
	for _, m := range r.modules {
		program := "package main\n\nimport _ \"" + m.path + "\"\n\nfunc main() {}\n"
		dir, err := r.newModule(ctx, "needs-"+strings.ReplaceAll(m.subdir(), "/", "-"), map[string]string{"main.go": program})
		if err != nil {
			return err
		}
		for _, args := range [][]string{{"get", m.path + "@" + r.version}, {"run", "."}} {
			if _, err := r.golang(ctx, dir, args...); err != nil {
				return err
			}
		}
		_, _ = fmt.Fprintln(r.out, m.path, "builds and runs")
	}
	return r.proveCommands(ctx)
}

const page = "docs/getting-started.md"

func (r *release) proveProgram(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.clone, page))
	if err != nil {
		return err
	}
	files, err := programs(string(text))
	if err != nil {
		return err
	}
	dir, err := r.newModule(ctx, "shop", files)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"get", r.modules[0].path + "@" + r.version}, {"mod", "tidy"}, {"vet", "."}, {"test", "."}} {
		if _, err := r.golang(ctx, dir, args...); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(r.out, "the program of", page, "builds, and its test passes")
	return nil
}

// programs returns the program and the test of a page: its blocks that begin with a package.
func programs(page string) (map[string]string, error) {
	files := map[string]string{}
	for _, block := range strings.Split(page, "```go\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		switch {
		case !strings.Contains(code, "package main\n"):
		case strings.Contains(code, "\"testing\""):
			files["main_test.go"] = code
		default:
			files["main.go"] = code
		}
	}
	if len(files) != 2 {
		return nil, errors.New("the page has no program with a test")
	}
	return files, nil
}

// newModule makes a folder with a module of its own.
func (r *release) newModule(ctx context.Context, name string, files map[string]string) (dir string, err error) {
	dir = filepath.Join(r.scratch, "user", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	_, err = r.golang(ctx, dir, "mod", "init", "example.com/user")
	return dir, err
}

// proveCommands installs each command, which go install refuses where a replace is left, and
// runs those for go vet on the program.
func (r *release) proveCommands(ctx context.Context) error {
	for _, m := range r.modules {
		found, err := r.golang(ctx, filepath.Join(r.clone, m.dir), "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
		if err != nil {
			return err
		}
		for command := range strings.FieldsSeq(found) {
			if strings.Contains(command, "/internal/") {
				continue
			}
			if _, err := r.golang(ctx, r.scratch, "install", command+"@"+r.version); err != nil {
				return err
			}
			name := filepath.Base(command)
			if strings.HasSuffix(name, "vet") {
				if _, err := r.golang(ctx, filepath.Join(r.scratch, "user", "shop"), "vet", "-vettool="+filepath.Join(r.scratch, "bin", name), "."); err != nil {
					return err
				}
			}
			_, _ = fmt.Fprintln(r.out, command, "installs")
		}
	}
	return nil
}
