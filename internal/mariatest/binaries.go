package mariatest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// binaries are the paths of MariaDB's programs.
type binaries struct{ server, install, client string }

var errNoBinaries = errors.New("mariatest: no MariaDB found: install it (apt-get install mariadb-server; brew install mariadb) " +
	"or put mariadbd, mariadb-install-db and mariadb on PATH")

// findBinaries looks on PATH, then where distributions put what is for root.
var findBinaries = sync.OnceValues(func() (binaries, error) {
	b := binaries{find("mariadbd"), find("mariadb-install-db"), find("mariadb")}
	if b.server == "" || b.install == "" || b.client == "" {
		return b, errNoBinaries
	}
	return b, nil
})

// find returns the path of a program, or nothing.
func find(name string) string {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/libexec/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// environment is that of the test without the variables by which a developer's
// own server would reach into it.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MYSQL_") || strings.HasPrefix(v, "MARIADB_") ||
			strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	return append(env, "LC_ALL=C", "TZ=UTC")
}
