package mysqltest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// binVariable chooses a MySQL.
const binVariable = "DBSCOPE_MYSQL_BIN"

// binaries are the paths of the programs of one MySQL, which are all below its
// prefix: /usr, or wherever an archive was unpacked.
type binaries struct{ prefix, server, client string }

// Find returns the path of mysqld.
func Find() (string, error) {
	b, err := find()
	return b.server, err
}

var findBinaries = sync.OnceValues(find)

// Have skips the test where there is no MySQL, unless all servers are asked for.
func Have(t testing.TB) {
	t.Helper()
	var missing *child.MissingError
	if _, err := findBinaries(); errors.As(err, &missing) && !child.AllServers() {
		t.Skip(err)
	}
}

// find takes the MySQL that the environment names, else the first of all places that
// is one: MariaDB has a mysqld too, which is itself.
func find() (binaries, error) {
	dir, err := child.Folder(binVariable)
	if err != nil {
		return binaries{}, fmt.Errorf("mysqltest: %w", err)
	}
	if dir != "" {
		return within(dir)
	}
	for _, dir := range places() {
		server := filepath.Join(dir, "mysqld")
		if _, err := exec.LookPath(server); err == nil && isMySQL(server) {
			return within(dir)
		}
	}
	return binaries{}, fmt.Errorf("mysqltest: %w", &child.MissingError{Name: "MySQL", Key: "mysql", Variable: binVariable})
}

func places() (dirs []string) {
	if path, err := exec.LookPath("mysqld"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return append(dirs, "/usr/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/opt/mysql/bin", "/usr/local/opt/mysql/bin",
		filepath.Join(child.Fetched("mysql"), "usr/sbin"))
}

func isMySQL(server string) bool {
	version, err := exec.Command(server, "--no-defaults", "--version").CombinedOutput()
	return err == nil && !bytes.Contains(version, []byte("MariaDB"))
}

// within finds the programs in a folder and in those beside it.
func within(dir string) (binaries, error) {
	b := binaries{prefix: filepath.Dir(dir)}
	folders := []string{dir, filepath.Join(b.prefix, "bin"), filepath.Join(b.prefix, "sbin"), filepath.Join(b.prefix, "libexec")}
	for _, program := range []struct {
		name string
		path *string
	}{{"mysqld", &b.server}, {"mysql", &b.client}} {
		found, ok := child.FolderWith(program.name, folders...)
		if !ok {
			return binaries{}, fmt.Errorf("mysqltest: the MySQL in %s has no %s, nor have bin, sbin or libexec beside it; "+
				"complete it, or name another one's folder in %s", dir, program.name, binVariable)
		}
		*program.path = filepath.Join(found, program.name)
	}
	if !isMySQL(b.server) {
		return binaries{}, fmt.Errorf("mysqltest: %s is not MySQL's; name another one's folder in %s", b.server, binVariable)
	}
	return b, nil
}

// messages is the folder of the server's texts, which is not found by itself where
// the server was unpacked.
func (b binaries) messages() string {
	dir := filepath.Join(b.prefix, "share/mysql")
	if _, err := os.Stat(dir); err != nil {
		return filepath.Join(b.prefix, "share")
	}
	return dir
}
