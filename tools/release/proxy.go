package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	modpath "golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// proxy is the folder of the file proxy.
func (r *release) proxy() string { return filepath.Join(r.scratch, "proxy") }

// publish puts a module as it is in the clone into the proxy.
func (r *release) publish(m *module) error {
	dir := filepath.Join(r.clone, m.dir)
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	return r.serve(modpath.Version{Path: m.path, Version: r.version}, mod, func(w io.Writer, v modpath.Version) error {
		return zip.CreateFromDir(w, v, dir)
	})
}

// serve writes the files that a proxy has of one version of a module.
func (r *release) serve(v modpath.Version, mod []byte, pack func(io.Writer, modpath.Version) error) (err error) {
	escaped, err := modpath.EscapePath(v.Path)
	if err != nil {
		return err
	}
	dir := filepath.Join(r.proxy(), filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": v.Version, "Time": r.now.UTC()})
	if err != nil {
		return err
	}
	list, err := os.OpenFile(filepath.Join(dir, "list"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(list, v.Version+"\n")
	if err := errors.Join(err, list.Close(),
		os.WriteFile(filepath.Join(dir, v.Version+".info"), info, 0o644),
		os.WriteFile(filepath.Join(dir, v.Version+".mod"), mod, 0o644)); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, v.Version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(pack(file, v), file.Close())
}
