package mysqltest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/mysqltest"
)

const binVariable = "DBSCOPE_MYSQL_BIN"

func TestTheProgramsOfOneMySQLAreTaken(t *testing.T) {
	for name, layout := range map[string][2]string{
		"Debian":  {"sbin/mysqld", "bin/mysql"},
		"archive": {"bin/mysqld", "bin/mysql"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := child.Stubs(t, layout[:]...)
			another := child.Stubs(t, "mysql")
			server := filepath.Join(dir, filepath.Dir(layout[0]))
			t.Setenv("PATH", another+string(os.PathListSeparator)+server+string(os.PathListSeparator)+os.Getenv("PATH"))
			for _, chosen := range []string{"", server, filepath.Join(dir, "bin")} {
				t.Setenv(binVariable, chosen)
				got, err := mysqltest.FindAll()
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

func TestAMySQLThatLacksAProgramIsRefusedByName(t *testing.T) {
	programs := []string{"mysqld", "mysql"}
	for i, lacking := range programs {
		dir := filepath.Join(child.Stubs(t, "bin/"+programs[1-i]), "bin")
		t.Setenv(binVariable, dir)
		_, err := mysqltest.FindAll()
		if err == nil || !strings.Contains(err.Error(), dir+" has no "+lacking) || !strings.Contains(err.Error(), binVariable) {
			t.Errorf("without %s: got %v", lacking, err)
		}
	}
}

// MariaDB's packages have programs of MySQL's names.
func TestMariaDBIsNotTakenForMySQL(t *testing.T) {
	dir := child.Stubs(t, "mysqld", "mysql")
	err := os.WriteFile(filepath.Join(dir, "mysqld"), []byte("#!/bin/sh\necho mysqld Ver 10.11.6-MariaDB\n"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(binVariable, dir)
	if _, err := mysqltest.FindAll(); err == nil || !strings.Contains(err.Error(), "is not MySQL's") {
		t.Errorf("chosen: got %v", err)
	}
	t.Setenv(binVariable, "")
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	if got, err := mysqltest.FindAll(); strings.HasPrefix(got[0], dir) {
		t.Errorf("on PATH: got %v, %v", got, err)
	}
}
