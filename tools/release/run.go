package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// git runs git in a folder and returns what it prints.
func (r *release) git(ctx context.Context, dir string, args ...string) (string, error) {
	return run(ctx, dir, nil, "git", args...)
}

// golang runs the go command in a folder as on a machine that has none of the released modules:
// with a module cache of its own, which finds them in the file proxy. What else is needed comes
// from the cache of this machine, or from where the go command gets it otherwise.
func (r *release) golang(ctx context.Context, dir string, args ...string) (string, error) {
	env, err := r.env(ctx)
	if err != nil {
		return "", err
	}
	return run(ctx, dir, env, "go", args...)
}

func (r *release) env(ctx context.Context) ([]string, error) {
	out, err := run(ctx, r.repo, nil, "go", "env", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return nil, err
	}
	cache, proxies, _ := strings.Cut(out, "\n")
	return []string{
		"GOWORK=off",
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
		"GOMODCACHE=" + filepath.Join(r.scratch, "modules"),
		"GOBIN=" + filepath.Join(r.scratch, "bin"),
		"GOPROXY=file://" + r.proxy() + ",file://" + filepath.Join(cache, "cache", "download") + "," + proxies,
		"GONOSUMDB=" + r.modules[0].path, // sum.golang.org does not know them yet
	}, nil
}

func run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s in %s: %w\n%s%s", name, strings.Join(args, " "), dir, err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}
