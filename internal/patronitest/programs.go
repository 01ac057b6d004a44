package patronitest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/dbscope/dbscope/internal/pgtest"
)

// programs is where the executables are.
type programs struct{ patroni, etcd, postgres string }

var errNoPrograms = errors.New("install PostgreSQL, patroni and etcd " +
	"(apt-get install postgresql-15 patroni etcd-server python3-etcd python3-psycopg2) or put them on PATH")

func findPrograms() (found programs, err error) {
	if found.postgres, err = pgtest.Binaries(); err != nil {
		return found, err
	}
	for name, path := range map[string]*string{"patroni": &found.patroni, "etcd": &found.etcd} {
		if *path, err = exec.LookPath(name); err != nil {
			return found, fmt.Errorf("patronitest: no %s found: %w", name, errNoPrograms)
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return found, err
		}
	}
	return found, nil
}
