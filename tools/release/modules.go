package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// untagged are the folders whose modules nobody requires.
var untagged = []string{"bench", "examples", "tests", "tools"}

// module is one of the repository's.
type module struct {
	path     string
	dir      string   // its folder in the repository, "." of the root
	requires []string // the paths of the repository's modules that it requires
	replaced []byte   // its go.mod as it is for development
}

// tag is the name of the tag of a version.
func (m *module) tag(version string) string { return path.Join(m.dir, version) }

// findModules reads all go.mod files, and puts those that are tagged in an order in which each
// comes after those that it requires.
func (r *release) findModules() error {
	var all []*module
	err := filepath.WalkDir(r.clone, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "testdata", "node_modules"}, entry.Name()):
			return filepath.SkipDir
		case entry.Name() != "go.mod":
			return nil
		}
		m, err := r.readModule(file)
		all = append(all, m)
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.dir == "." {
			r.modules = append(r.modules, m)
		}
	}
	if len(r.modules) != 1 {
		return errors.New("the repository's root has no go.mod")
	}
	for _, m := range all {
		if !strings.HasPrefix(m.path, r.modules[0].path) {
			return fmt.Errorf("%s is in the repository of %s", m.path, r.modules[0].path)
		}
		m.requires = slices.DeleteFunc(m.requires, func(p string) bool {
			return !slices.ContainsFunc(all, func(m *module) bool { return m.path == p })
		})
	}
	return r.order(all)
}

func (r *release) readModule(file string) (*module, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(file, text, nil)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Rel(r.clone, filepath.Dir(file))
	m := &module{path: mod.Module.Mod.Path, dir: filepath.ToSlash(dir)}
	for _, req := range mod.Require {
		m.requires = append(m.requires, req.Mod.Path)
	}
	return m, err
}

// order begins with the root module, which is in r.modules already.
func (r *release) order(all []*module) error {
	var rest []*module
	for _, m := range all {
		switch top, _, _ := strings.Cut(m.dir, "/"); {
		case m.dir == ".":
		case slices.Contains(untagged, top):
			r.others = append(r.others, m)
		default:
			rest = append(rest, m)
		}
	}
	for len(rest) > 0 {
		n := len(rest)
		rest = slices.DeleteFunc(rest, func(m *module) bool {
			for _, p := range m.requires {
				if !slices.ContainsFunc(r.modules, func(m *module) bool { return m.path == p }) {
					return false
				}
			}
			r.modules = append(r.modules, m)
			return true
		})
		if len(rest) == n {
			return fmt.Errorf("%s requires a module that is not tagged, or that requires it", rest[0].path)
		}
	}
	return nil
}

// requireVersion makes each module require the version of the others, without a replace, and
// puts it into the proxy, where the next ones find it.
func (r *release) requireVersion(ctx context.Context) error {
	for _, m := range r.modules {
		if err := r.edit(ctx, m, func(mod *modfile.File) error {
			for _, p := range m.requires {
				if err := mod.DropReplace(p, ""); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := r.publish(m); err != nil {
			return err
		}
	}
	for _, m := range r.others {
		if err := r.edit(ctx, m, func(*modfile.File) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// edit changes a module's go.mod, and tidies it.
func (r *release) edit(ctx context.Context, m *module, change func(*modfile.File) error) (err error) {
	if len(m.requires) == 0 {
		return nil
	}
	file := filepath.Join(r.clone, m.dir, "go.mod")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(file, text, nil)
	if err != nil {
		return err
	}
	for _, p := range m.requires {
		if slices.ContainsFunc(r.modules, func(m *module) bool { return m.path == p }) {
			err = errors.Join(err, mod.AddRequire(p, r.version))
		}
	}
	if err != nil {
		return err
	}
	if m.replaced, err = mod.Format(); err != nil {
		return err
	}
	if err := change(mod); err != nil {
		return err
	}
	if err := r.write(file, mod); err != nil {
		return err
	}
	_, err = r.golang(ctx, filepath.Dir(file), "mod", "tidy")
	return err
}

func (*release) write(file string, mod *modfile.File) error {
	mod.Cleanup()
	text, err := mod.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
