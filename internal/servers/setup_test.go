package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// setup runs the script with SETUP=no, for a machine where the last word is said
// by a stub of go, and apt-get and sudo are stubs that would leave a trace.
func setup(t *testing.T, goStub string, env ...string) (output string, touched bool, err error) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no sh")
	}
	dir := child.Stubs(t)
	trace := filepath.Join(dir, "trace")
	for name, text := range map[string]string{
		"go":      goStub,
		"apt-get": "touch " + trace,
		"sudo":    "touch " + trace,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "../../scripts/setup")
	cmd.Env = append(append(os.Environ(), "SETUP=no", "PATH="+dir+":/usr/bin:/bin"), env...)
	out, err := cmd.CombinedOutput()
	_, statErr := os.Stat(trace)
	return string(out), !errors.Is(statErr, os.ErrNotExist), err
}

func TestSetupThatMayNotInstallSaysInOneLineWhatToType(t *testing.T) {
	output, touched, err := setup(t, "echo postgresql; echo mariadb; echo chromium; echo patroni-modules; echo compiler; echo user:mysql", "OS_RELEASE=/dev/null")
	if err == nil || touched {
		t.Errorf("error %v, touched the machine: %v", err, touched)
	}
	if strings.Count(output, "\n") != 1 {
		t.Errorf("not one line:\n%s", output)
	}
	for _, part := range []string{
		"apt-get install --no-install-recommends postgresql mariadb-server-core mariadb-client-core chromium python3-etcd python3-psycopg2 gcc libc6-dev && ",
		"useradd --system --user-group --shell /usr/sbin/nologin mysql\n",
	} {
		if !strings.Contains(output, part) {
			t.Errorf("%q is not in %q", part, output)
		}
	}
}

func TestSetupDoesWithoutMySQL(t *testing.T) {
	output, touched, err := setup(t, `case "$*" in *-missing) echo mysql ;; *) echo "PostgreSQL 15" ;; esac`)
	if err != nil || touched || output != "PostgreSQL 15\n" {
		t.Errorf("error %v, touched the machine: %v, output %q", err, touched, output)
	}
}

// Ubuntu's package is a snap, which is not had everywhere.
func TestSetupOnUbuntuSaysWhichBrowserToInstall(t *testing.T) {
	release := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(release, []byte("ID=ubuntu\nVERSION_ID=\"24.04\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, may := range []string{"SETUP=no", "SETUP="} {
		output, touched, err := setup(t, "echo chromium; echo pgpool2", "OS_RELEASE="+release, may)
		if err == nil || touched || strings.Count(output, "\n") != 1 || !strings.Contains(output, "Google Chrome") || !strings.Contains(output, "DBSCOPE_CHROME") {
			t.Errorf("error %v, touched the machine: %v, output %q", err, touched, output)
		}
	}
}

func TestSetupFailsWhereAChosenProgramIsOfNoUse(t *testing.T) {
	output, touched, err := setup(t, "echo psql lacks >&2; exit 1")
	if err == nil || touched || output != "psql lacks\n" {
		t.Errorf("error %v, touched the machine: %v, output %q", err, touched, output)
	}
}

func TestSetupWithNothingMissingPrintsTheServers(t *testing.T) {
	output, touched, err := setup(t, `[ "$3" = -missing ] || echo "PostgreSQL 15"`)
	if err != nil || touched || output != "PostgreSQL 15\n" {
		t.Errorf("error %v, touched the machine: %v, output %q", err, touched, output)
	}
}
