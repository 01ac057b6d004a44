package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences of what programs may be built with under the MIT licence of these
// modules, without more than a notice.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib"}

const licencesFile = "THIRD_PARTY.md"

// bills has a bill of materials of each module written into the folder dist, and refuses a
// licence that is not allowed, or that the list of them lacks.
func (r *release) bills(ctx context.Context) error {
	listed, err := os.ReadFile(filepath.Join(r.clone, licencesFile))
	if err != nil {
		return err
	}
	env, err := r.env(ctx)
	if err != nil {
		return err
	}
	list, err := r.licences(ctx, env)
	if err != nil {
		return err
	}
	if list != string(listed) {
		return errors.New(licencesFile + " is not what the modules are built with now: make licences writes it anew")
	}
	if r.bin == "" {
		_, _ = fmt.Fprintln(r.out, "no bills: cyclonedx-gomod is not given")
		return nil
	}
	dist := filepath.Join(r.repo, "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	for _, m := range r.modules {
		file := filepath.Join(dist, strings.ReplaceAll(m.path, "/", "-")+"-"+r.version+".cdx.json")
		if _, err := run(ctx, filepath.Join(r.clone, m.dir), env, filepath.Join(r.bin, "cyclonedx-gomod"), "mod", "-json", "-output", file, "."); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(r.out, "they are in", dist)
	return nil
}

// writeLicences writes the list of licences anew.
func (r *release) writeLicences(ctx context.Context) (err error) {
	if r.clone, err = filepath.Abs(r.repo); err != nil {
		return err
	}
	if err := r.findModules(); err != nil {
		return err
	}
	list, err := r.licences(ctx, []string{"GOWORK=off"})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.clone, licencesFile), []byte(list), 0o644)
}

// licences returns the list of the modules of others whose packages those of ours are built
// with, on one system whatever this is, so that the list is the same everywhere.
func (r *release) licences(ctx context.Context, env []string) (string, error) {
	of := map[string]string{}   // by module of others, its licences
	by := map[string][]string{} // by module of others, the modules that are built with it
	for _, m := range r.modules {
		out, err := run(ctx, filepath.Join(r.clone, m.dir), append(env, "GOOS=linux", "GOARCH=amd64"), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}", "./...")
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(out) {
			path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
			if path == "" || r.isOurs(path) || slices.Contains(by[path], filepath.Base(m.path)) {
				continue
			}
			by[path] = append(by[path], filepath.Base(m.path))
			if of[path], err = licence(dir); err != nil {
				return "", fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return table(of, by), nil
}

func (r *release) isOurs(path string) bool {
	return slices.ContainsFunc(r.modules, func(m *module) bool { return m.path == path })
}

// licence returns the licences in a folder, and refuses those that are not allowed.
func licence(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, entry := range entries {
		name := strings.ToUpper(entry.Name())
		if !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") || entry.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return "", err
		}
		for _, match := range licensecheck.Scan(text).Match {
			if !slices.Contains(allowed, match.ID) {
				return "", fmt.Errorf("%s has the licence %s, which is not one of %s", entry.Name(), match.ID, strings.Join(allowed, ", "))
			}
			if !slices.Contains(found, match.ID) {
				found = append(found, match.ID)
			}
		}
	}
	if len(found) == 0 {
		return "", errors.New("no licence was found: look for it")
	}
	slices.Sort(found)
	return strings.Join(found, ", "), nil
}

func table(of map[string]string, by map[string][]string) string {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("# What the modules are built with\n\n" +
		"The root module needs nothing but Go's standard library. The others need what they are adapters of, and what that needs.\n" +
		"What only tests need is not here. `make licences` writes this list; each release has a bill of materials with the versions.\n\n" +
		"| module | licence | needed by |\n|---|---|---|\n")
	for _, name := range names {
		slices.Sort(by[name])
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, of[name], strings.Join(by[name], ", "))
	}
	return b.String()
}
