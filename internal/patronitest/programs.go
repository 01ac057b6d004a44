package patronitest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// patroniVariable chooses a Patroni: the path of the program.
const patroniVariable = "DBSCOPE_PATRONI"

// programs is where the executables are.
type programs struct{ patroni, etcd, postgres string }

func findPrograms() (found programs, err error) {
	if found.postgres, err = pgtest.Binaries(); err != nil {
		return found, err
	}
	// Patroni starts these from the same folder.
	if err := pgtest.Needs(found.postgres, "pg_ctl", "pg_basebackup", "pg_controldata", "pg_isready", "pg_rewind"); err != nil {
		return found, fmt.Errorf("patronitest: Patroni needs a whole PostgreSQL: %w", err)
	}
	if found.etcd, err = FindEtcd(); err != nil {
		return found, err
	}
	found.patroni, err = FindPatroni()
	return found, err
}

// FindEtcd returns the path of the etcd that DBSCOPE_ETCD names, else that of the
// one on PATH.
func FindEtcd() (string, error) {
	path, err := child.Program(&child.MissingError{Name: "etcd", Key: "etcd", Variable: "DBSCOPE_ETCD"}, "etcd")
	if err != nil {
		return "", fmt.Errorf("patronitest: %w", err)
	}
	return path, nil
}

// FindPatroni returns the path of the Patroni that DBSCOPE_PATRONI names, else
// that of the one on PATH. That it lacks what it talks to etcd and PostgreSQL
// with, which packages leave to the user, is an error too.
func FindPatroni() (string, error) {
	path, err := child.Program(&child.MissingError{Name: "Patroni", Key: "patroni", Variable: patroniVariable}, "patroni")
	if err != nil {
		return "", fmt.Errorf("patronitest: %w", err)
	}
	if err := imports(path); err != nil {
		return "", err
	}
	return path, nil
}

// imports tries the modules in the Python that Patroni's first line names. What
// is no Python program is trusted.
func imports(patroni string) error {
	file, err := os.Open(patroni)
	if err != nil {
		return fmt.Errorf("patronitest: %w", err)
	}
	defer func() { _ = file.Close() }()
	line, _ := bufio.NewReader(file).ReadString('\n') // an error leaves it short, and no Python's
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || !strings.Contains(line, "python") {
		return nil
	}
	python := exec.Command(words[0], append(words[1:], "-c", "import etcd\ntry:\n import psycopg2\nexcept ImportError:\n import psycopg")...)
	python.Dir = filepath.Dir(patroni)
	if out, err := python.CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("patronitest: %s cannot run: %w (%s)", patroni,
			&child.MissingError{Name: "python-etcd or psycopg2", Key: "patroni-modules", Variable: patroniVariable}, lines[len(lines)-1])
	}
	return nil
}
