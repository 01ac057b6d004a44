package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// choose lets the environment name stubs of all programs.
func choose(t *testing.T) (dir string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere there is no Patroni to be found")
	}
	dir = child.Stubs(t, "initdb", "postgres", "psql", "bin/mariadbd", "bin/mariadb-install-db", "bin/mariadb", "my/mysqld", "my/mysql", "pgbouncer", "pgpool", "chromium", "patroni", "etcd")
	t.Setenv("DBSCOPE_PG_BIN", dir)
	t.Setenv("DBSCOPE_MARIADB_BIN", filepath.Join(dir, "bin"))
	t.Setenv("DBSCOPE_MYSQL_BIN", filepath.Join(dir, "my"))
	for variable, name := range map[string]string{"DBSCOPE_PGBOUNCER": "pgbouncer", "DBSCOPE_PGPOOL": "pgpool", "DBSCOPE_CHROME": "chromium", "DBSCOPE_PATRONI": "patroni", "DBSCOPE_ETCD": "etcd"} {
		t.Setenv(variable, filepath.Join(dir, name))
	}
	return dir
}

func TestEveryServerIsPrintedWithItsVersionAndPath(t *testing.T) {
	dir := choose(t)
	var out strings.Builder
	if err := run(&out, false); err != nil {
		t.Error(err)
	}
	var want []string
	for _, s := range [][2]string{
		{"PostgreSQL", "postgres"}, {"PgBouncer", "pgbouncer"}, {"pgpool-II", "pgpool"}, {"MariaDB", "bin/mariadbd"}, {"MySQL", "my/mysqld"}, {"Chromium", "chromium"}, {"Patroni", "patroni"}, {"etcd", "etcd"},
	} {
		want = append(want, s[0], "1.2.3", filepath.Join(dir, s[1]))
	}
	if got := strings.Join(strings.Fields(out.String()), " "); got != strings.Join(want, " ") {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestWhatIsMissingIsListedByItsKey(t *testing.T) {
	choose(t)
	tool, err := exec.LookPath("go")
	if err == nil {
		tool, err = filepath.EvalSymlinks(tool)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBSCOPE_ETCD", "")
	t.Setenv("CC", "")
	t.Setenv("PATH", filepath.Dir(tool)) // go, and nothing else
	var out strings.Builder
	if err := run(&out, true); err != nil || out.String() != "etcd\ncompiler\ncurl\n" {
		t.Errorf("got %v and %q", err, out.String())
	}
}

func TestAProgramThatIsOfNoUseIsNotCalledMissing(t *testing.T) {
	dir := choose(t)
	if err := os.Remove(filepath.Join(dir, "psql")); err != nil {
		t.Fatal(err)
	}
	for _, onlyMissing := range []bool{false, true} {
		var out strings.Builder
		if err := run(&out, onlyMissing); err == nil || !strings.Contains(err.Error(), dir+" has no psql") || strings.Contains(out.String(), "postgresql") {
			t.Errorf("got %v and %q", err, out.String())
		}
	}
}
