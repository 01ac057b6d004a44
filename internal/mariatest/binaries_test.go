package mariatest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/mariatest"
)

const binVariable = "DBSCOPE_MARIADB_BIN"

func TestTheProgramsOfOneMariaDBAreTaken(t *testing.T) {
	// As Debian has them, as an archive does, and all in one folder.
	for name, layout := range map[string][3]string{
		"Debian":  {"sbin/mariadbd", "bin/mariadb-install-db", "bin/mariadb"},
		"archive": {"bin/mariadbd", "scripts/mariadb-install-db", "bin/mariadb"},
		"folder":  {"bin/mariadbd", "bin/mariadb-install-db", "bin/mariadb"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := child.Stubs(t, layout[:]...)
			another := child.Stubs(t, "mariadb", "mariadb-install-db")
			server := filepath.Join(dir, filepath.Dir(layout[0]))
			// Those that come first on PATH belong to another one.
			t.Setenv("PATH", another+string(os.PathListSeparator)+server)
			for _, chosen := range []string{"", server, filepath.Join(dir, "bin")} {
				t.Setenv(binVariable, chosen)
				got, err := mariatest.FindAll()
				if err != nil {
					t.Fatal(err)
				}
				for i, path := range layout {
					if want := filepath.Join(dir, path); got[i] != want {
						t.Errorf("%q: got %s, want %s", chosen, got[i], want)
					}
				}
			}
		})
	}
}

func TestAMariaDBThatLacksAProgramIsRefusedByName(t *testing.T) {
	programs := []string{"bin/mariadbd", "bin/mariadb-install-db", "bin/mariadb"}
	for i, lacking := range programs {
		var rest []string
		rest = append(append(rest, programs[:i]...), programs[i+1:]...)
		dir := filepath.Join(child.Stubs(t, rest...), "bin")
		t.Setenv(binVariable, dir)
		_, err := mariatest.FindAll()
		if err == nil || !strings.Contains(err.Error(), dir+" has no "+filepath.Base(lacking)) || !strings.Contains(err.Error(), binVariable) {
			t.Errorf("without %s: got %v", lacking, err)
		}
	}
	t.Setenv(binVariable, "")
	dir := filepath.Join(child.Stubs(t, "bin/mariadbd", "bin/mariadb-install-db"), "bin")
	t.Setenv("PATH", dir)
	if _, err := mariatest.FindAll(); err == nil || !strings.Contains(err.Error(), dir+" has no mariadb,") {
		t.Errorf("the one on PATH: got %v", err)
	}
}
