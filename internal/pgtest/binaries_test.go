package pgtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgtest"
)

const binVariable = "DBSCOPE_PG_BIN"

func TestTheEnvironmentChoosesThePostgreSQL(t *testing.T) {
	onPath, chosen := child.Stubs(t, "initdb", "postgres", "psql"), child.Stubs(t, "initdb", "postgres", "psql")
	t.Setenv("PATH", onPath)
	t.Setenv(binVariable, chosen)
	if got, err := pgtest.Find(); filepath.Dir(got) != chosen || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, chosen)
	}
}

func TestThePostgreSQLOnPATHIsTaken(t *testing.T) {
	dir := child.Stubs(t, "initdb", "postgres", "psql")
	t.Setenv(binVariable, "")
	t.Setenv("PATH", dir)
	if got, err := pgtest.Find(); filepath.Dir(got) != dir || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, dir)
	}
}

func TestALinkOnPATHLeadsToTheProgramsBehindIt(t *testing.T) {
	whole, links := child.Stubs(t, "initdb", "postgres", "psql"), child.Stubs(t, "postgres", "psql")
	if err := os.Symlink(filepath.Join(whole, "initdb"), filepath.Join(links, "initdb")); err != nil {
		t.Fatal(err)
	}
	t.Setenv(binVariable, "")
	t.Setenv("PATH", links)
	if got, err := pgtest.Find(); filepath.Dir(got) != whole || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, whole)
	}
}

// Another PostgreSQL may be installed here: it must not be taken instead.
func TestAPostgreSQLThatLacksAProgramIsRefusedByName(t *testing.T) {
	for _, where := range []string{"PATH", binVariable} {
		for _, lacking := range []string{"initdb", "postgres", "psql"} {
			t.Run(lacking+" in "+where, func(t *testing.T) {
				var rest []string
				for _, name := range []string{"initdb", "postgres", "psql"} {
					if name != lacking {
						rest = append(rest, name)
					}
				}
				dir := child.Stubs(t, rest...)
				t.Setenv(binVariable, "")
				t.Setenv(where, dir)
				_, err := pgtest.Find()
				if err == nil || !strings.Contains(err.Error(), dir+" has no "+lacking) || !strings.Contains(err.Error(), binVariable) {
					t.Errorf("got %v", err)
				}
				var missing *child.MissingError
				if errors.As(err, &missing) {
					t.Errorf("an installation would not mend: %v", err)
				}
			})
		}
	}
}

func TestAVariableThatLeadsNowhereIsRefused(t *testing.T) {
	file := filepath.Join(child.Stubs(t, "postgres"), "postgres")
	for value, says := range map[string]string{
		".":               "absolute path",
		"bin":             "no such file",
		file:              "not a folder",
		file + "-missing": "no such file",
	} {
		t.Setenv(binVariable, value)
		_, err := pgtest.Find()
		if err == nil || !strings.Contains(err.Error(), binVariable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", value, err)
		}
	}
}

func TestAFolderThatTheServersUserCannotEnterIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("without root, servers run as the user of the tests")
	}
	dir := child.Stubs(t, "initdb", "postgres", "psql")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(binVariable, dir)
	if _, err := pgtest.Find(); err == nil || !strings.Contains(err.Error(), "only root may look") {
		t.Errorf("got %v", err)
	}
}
