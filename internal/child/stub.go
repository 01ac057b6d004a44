package child

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Stubs makes a folder with programs of these names, or paths below it, which
// only print a version, 1.2.3, for tests of how programs are found. It is open to
// all users, and gone with the test.
func Stubs(t testing.TB, names ...string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("programs have other names here")
	}
	var owner *Owner
	if os.Geteuid() == 0 {
		owner = &Owner{} // root, and not where only root may look
	}
	dir, err := MakeDirectory("dbscope-stubs-", owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\necho stub 1.2.3\n"), 0o755))
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
