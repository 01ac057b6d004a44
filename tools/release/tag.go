package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	modpath "golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// tag commits the release, and tags the root module first. What is tagged must be what is in
// the proxy: the sums of the nested modules were made with that.
func (r *release) tag(ctx context.Context) error {
	if err := r.commit(ctx, "Release "+r.version); err != nil {
		return err
	}
	for _, m := range r.modules {
		if _, err := r.git(ctx, r.clone, "tag", "--annotate", "--message", m.path+" "+r.version, m.tag(r.version)); err != nil {
			return err
		}
		if err := r.sameAsTagged(m); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(r.out, m.tag(r.version))
	}
	return nil
}

func (r *release) commit(ctx context.Context, message string) error {
	if _, err := r.git(ctx, r.clone, "add", "--all"); err != nil {
		return err
	}
	_, err := r.git(ctx, r.clone, "commit", "--quiet", "--allow-empty", "--message", message)
	return err
}

func (r *release) sameAsTagged(m *module) error {
	v := modpath.Version{Path: m.path, Version: r.version}
	file := filepath.Join(r.scratch, "tagged.zip")
	var tagged bytes.Buffer
	if err := zip.CreateFromVCS(&tagged, v, r.clone, m.tag(r.version), m.subdir()); err != nil {
		return err
	}
	if err := os.WriteFile(file, tagged.Bytes(), 0o644); err != nil {
		return err
	}
	want, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		return err
	}
	escaped, err := modpath.EscapePath(m.path)
	if err != nil {
		return err
	}
	got, err := dirhash.HashZip(filepath.Join(r.proxy(), filepath.FromSlash(escaped), "@v", r.version+".zip"), dirhash.Hash1)
	if err == nil && got != want {
		err = fmt.Errorf("%s has another sum than what is tagged as %s", m.path, m.tag(r.version))
	}
	return err
}

// subdir is the module's folder, empty for the root.
func (m *module) subdir() string {
	if m.dir == "." {
		return ""
	}
	return m.dir
}

// goOn puts the replaces back, so that each module is checked with the others as they are, and
// not as they were released.
func (r *release) goOn(ctx context.Context) error {
	for _, m := range r.modules {
		if m.replaced == nil {
			continue
		}
		dir := filepath.Join(r.clone, m.dir)
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), m.replaced, 0o644); err != nil {
			return err
		}
		if _, err := r.golang(ctx, dir, "mod", "tidy"); err != nil {
			return err
		}
	}
	return r.commit(ctx, "After "+r.version+": modules are built with each other as they are")
}

// compare has gorelease say what has changed in the API since the last release, and whether the
// version is one that allows that.
func (r *release) compare(ctx context.Context) error {
	switch {
	case r.last == "":
		_, _ = fmt.Fprintln(r.out, "skipped: there is no earlier release")
		return nil
	case r.bin == "":
		_, _ = fmt.Fprintln(r.out, "skipped: gorelease is not given")
		return nil
	}
	for _, m := range r.modules {
		mod, err := r.git(ctx, r.clone, "show", m.tag(r.last)+":"+filepath.ToSlash(filepath.Join(m.dir, "go.mod")))
		if err != nil {
			_, _ = fmt.Fprintf(r.out, "%s: skipped, it was not released as %s\n", m.path, r.last)
			continue
		}
		last := modpath.Version{Path: m.path, Version: r.last}
		if err := r.serve(last, []byte(mod+"\n"), func(w io.Writer, v modpath.Version) error {
			return zip.CreateFromVCS(w, v, r.clone, m.tag(r.last), m.subdir())
		}); err != nil {
			return err
		}
		env, err := r.env(ctx)
		if err != nil {
			return err
		}
		report, err := run(ctx, filepath.Join(r.clone, m.dir), env, filepath.Join(r.bin, "gorelease"), "-base="+r.last, "-version="+r.version)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(r.out, report)
	}
	return nil
}

// checkOut makes the clone what is tagged, so that tools see what users get.
func (r *release) checkOut(ctx context.Context) error {
	_, err := r.git(ctx, r.clone, "checkout", "--quiet", r.version)
	return err
}
