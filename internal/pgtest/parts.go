package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dbscope/dbscope/internal/child"
)

// What follows is for packages that run PostgreSQL by other programs.

// Binaries is the directory of PostgreSQL's programs.
func Binaries() (string, error) { return findBinaries() }

// Find returns the path of postgres. Unlike [Binaries] it looks each time.
func Find() (string, error) {
	bin, err := find()
	if err != nil {
		return "", err
	}
	return filepath.Join(bin, "postgres"), nil
}

// Environment is that of this process without what would reach into a server,
// and with the variables given, of the form NAME=value.
func Environment(extra ...string) []string { return kind.Environment(extra...) }

// Owner is the system user that PostgreSQL runs as.
func Owner() (*child.Owner, error) { return kind.Owner() }

// RemoveSharedMemory deletes the few bytes of System V shared memory that a
// killed server leaves in the kernel, as its postmaster.pid tells. A server that
// stopped has removed them, and its file too.
func RemoveSharedMemory(pidFile string) {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if lines := strings.Split(string(content), "\n"); len(lines) > 6 {
		if key := strings.Fields(lines[6]); len(key) == 2 {
			_ = exec.Command("ipcrm", "-m", key[1]).Run() // a courtesy
		}
	}
}

// Psql runs statements as [Server.Query] does, and returns the error.
func Psql(dsn, statements string) (string, error) {
	bin, err := findBinaries()
	if err != nil {
		return "", err
	}
	return psql(bin, dsn, statements)
}
