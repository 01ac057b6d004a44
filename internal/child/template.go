package child

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// Fill fills a data directory that takes seconds to create: with a copy of one that was
// created before, where there is one for the key, which is all that the directory
// depends on; else by create, after which a copy is kept in the user's cache directory.
func (k *Kind) Fill(data, key string, create func() error) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return create()
	}
	sum := sha256.Sum256([]byte(key))
	template := filepath.Join(cache, "dbscope-"+k.Package, fmt.Sprintf("%x", sum[:8]))
	if _, err := os.Stat(template); err != nil {
		if err := create(); err != nil {
			return err
		}
		keep(data, template) // or the next start creates again
		return nil
	}
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		return fmt.Errorf("%s: copying the data directory: %w", k.Package, err)
	}
	return nil
}

// keep copies a data directory to where others look for it, whole or not at
// all: several test binaries may be at it.
func keep(data, template string) {
	if os.MkdirAll(filepath.Dir(template), 0o755) != nil {
		return
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(template), "unfinished-")
	if err != nil {
		return
	}
	if os.CopyFS(unfinished, os.DirFS(data)) == nil {
		_ = os.Rename(unfinished, template) // fails where another one came first
	}
	_ = os.RemoveAll(unfinished)
}
