package mariatest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dbscope/dbscope/internal/child"
)

// binVariable chooses a MariaDB.
const binVariable = "DBSCOPE_MARIADB_BIN"

// binaries are the paths of the programs of one MariaDB, which are all below
// its prefix: /usr, or wherever an archive was unpacked.
type binaries struct{ prefix, server, install, client string }

// Find returns the path of mariadbd.
func Find() (string, error) {
	b, err := find()
	return b.server, err
}

var findBinaries = sync.OnceValues(find)

// find takes the MariaDB that the environment names, else the one whose server
// is on PATH, else one whose server is where systems put what is for root. It
// never takes programs of two, whose versions may differ.
func find() (binaries, error) {
	dir, err := child.Folder(binVariable)
	if err != nil {
		return binaries{}, fmt.Errorf("mariatest: %w", err)
	}
	if dir != "" {
		return within(dir)
	}
	dir, ok := onPath()
	if !ok {
		dir, ok = child.FolderWith("mariadbd", installed...)
	}
	if ok {
		b, err := within(dir)
		if err == nil || !slices.Contains(installed, dir) {
			return b, err
		}
		// A system's own, of which packages are missing.
	}
	return binaries{}, fmt.Errorf("mariatest: %w", &child.MissingError{Name: "MariaDB", Key: "mariadb", Variable: binVariable})
}

// installed lists where systems put the server.
var installed = []string{
	"/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/mysql/bin",
	"/opt/homebrew/opt/mariadb/bin", "/usr/local/opt/mariadb/bin",
}

// onPath returns the folder of the server itself, not of a link to it.
func onPath() (string, bool) {
	path, err := exec.LookPath("mariadbd")
	if err != nil {
		return "", false
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	path, err = filepath.Abs(path)
	return filepath.Dir(path), err == nil
}

// within finds the programs in a folder and in those beside it: Debian has the
// server in sbin and the rest in bin, an archive has some in scripts.
func within(dir string) (binaries, error) {
	b := binaries{prefix: filepath.Dir(dir)}
	folders := []string{dir}
	for _, name := range []string{"bin", "sbin", "libexec", "scripts"} {
		folders = append(folders, filepath.Join(b.prefix, name))
	}
	for _, program := range []struct {
		name string
		path *string
	}{{"mariadbd", &b.server}, {"mariadb-install-db", &b.install}, {"mariadb", &b.client}} {
		found, ok := child.FolderWith(program.name, folders...)
		if !ok {
			return binaries{}, fmt.Errorf("mariatest: the MariaDB in %s has no %s, nor have bin, sbin, libexec or scripts beside it; "+
				"complete it, or name another one's folder in %s", dir, program.name, binVariable)
		}
		*program.path = filepath.Join(found, program.name)
	}
	return b, nil
}
