package patronitest_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/patronitest"
)

func TestWhatIsMissingIsNamedAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is missing is Linux")
	}
	t.Setenv("PATH", "")
	for variable, key := range map[string]string{"DBSCOPE_ETCD": "etcd", "DBSCOPE_PATRONI": "patroni"} {
		t.Run(key, func(t *testing.T) {
			t.Setenv("DBSCOPE_ETCD", filepath.Join(child.Stubs(t, "etcd"), "etcd"))
			t.Setenv(variable, "")
			_, err := patronitest.New(t.Context())
			var missing *child.MissingError
			if !errors.As(err, &missing) || missing.Key != key || !strings.Contains(err.Error(), "make setup") || !strings.Contains(err.Error(), variable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTheEnvironmentChoosesPatroniAndEtcd(t *testing.T) {
	dir := child.Stubs(t, "patroni-4", "etcd-3")
	t.Setenv("DBSCOPE_PATRONI", filepath.Join(dir, "patroni-4"))
	t.Setenv("DBSCOPE_ETCD", filepath.Join(dir, "etcd-3"))
	for want, find := range map[string]func() (string, error){
		"patroni-4": patronitest.FindPatroni, "etcd-3": patronitest.FindEtcd,
	} {
		if got, err := find(); got != filepath.Join(dir, want) || err != nil {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

func TestAFolderInThePlaceOfPatroniIsRefused(t *testing.T) {
	t.Setenv("DBSCOPE_PATRONI", child.Stubs(t, "patroni"))
	if _, err := patronitest.FindPatroni(); err == nil || !strings.Contains(err.Error(), "DBSCOPE_PATRONI") || !strings.Contains(err.Error(), "not a program") {
		t.Errorf("got %v", err)
	}
}

func TestThatPatroniLacksAModuleIsKnownBeforeItStarts(t *testing.T) {
	// A Python without the module of that name.
	dir := child.Stubs(t, "patroni")
	python := filepath.Join(dir, "python3")
	err := errors.Join(
		os.WriteFile(python, []byte("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'etcd'\" >&2\nexit 1\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "patroni"), []byte("#!"+python+"\n"), 0o755),
	)
	ok(t, err)
	t.Setenv("DBSCOPE_PATRONI", filepath.Join(dir, "patroni"))
	_, err = patronitest.FindPatroni()
	var missing *child.MissingError
	if !errors.As(err, &missing) || missing.Key != "patroni-modules" || !strings.Contains(err.Error(), "'etcd'") {
		t.Errorf("got %v", err)
	}
}
