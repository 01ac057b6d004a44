package libraries_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/tests/libraries"
)

// all are the programs.
var all = map[string]func(handle *sql.DB, dialect string) (libraries.Program, error){
	"GORM":     libraries.OpenGORM,
	"bun":      libraries.OpenBun,
	"ent":      libraries.OpenEnt,
	"sqlx":     libraries.OpenSQLX,
	"sqlc":     libraries.OpenSQLC,
	"squirrel": libraries.OpenSquirrel,
	"goqu":     libraries.OpenGoqu,
	"scany":    libraries.OpenScany,
	"jet":      libraries.OpenJet,
	"bob":      libraries.OpenBob,
}

func TestEachLibrarysProgramIsInTheUnitOfItsContext(t *testing.T) {
	for name, open := range all {
		t.Run(name, func(t *testing.T) {
			onEach(t, "", func(t *testing.T, s *shop) {
				for how, opts := range map[string][]sqlscope.SQLOption{"savepoints": nil, "joining": {sqlscope.JoinBegin()}} {
					t.Run(how, func(t *testing.T) {
						var p libraries.Program
						ok(t, s.SetUp(func(handle *sql.DB) (err error) {
							p, err = open(handle, s.dialect)
							return err
						}, opts...))
						run(t, s, p, how == "joining")
					})
				}
			})
		})
	}
}

// The DB of pgxscope is what code for pgx takes.
func TestCodeOfSQLCForPgxIsInTheUnitOfItsContext(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		if s.pgx == nil {
			t.Skip("it is for pgx")
		}
		run(t, s, libraries.OpenSQLCPgx(s.pgx), false)
	})
}

func run(t *testing.T, s *shop, p libraries.Program, joins bool) {
	isInTheUnit(t, s, p)
	if !joins {
		failsAlone(t, s, p)
	}
	needsTheUnit(t, s, p)
	clear(t, s)
}

func clear(t *testing.T, s *shop) {
	t.Helper()
	for _, table := range []string{"books", "authors"} {
		_, err := s.other.Exec("DELETE FROM " + table)
		ok(t, err)
	}
}

// isInTheUnit has a unit store by hand and by the library, and expects all or nothing.
func isInTheUnit(t *testing.T, s *shop, p libraries.Program) {
	t.Helper()
	for _, end := range []error{errStop, nil} {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, s.exec(ctx, "INSERT INTO authors (name) VALUES ('by hand')"))
			ok(t, p.Add(ctx, "by library", "b", "a"))
			ok(t, p.AddAll(ctx, "by library", "d", "c", "e"))
			ok(t, p.AddAll(ctx, "by hand", "f"))
			titles, err := p.Titles(ctx, "by library")
			ok(t, err)
			equal(t, "titles", titles, "a", "b", "c", "d", "e")
			for range 2 {
				n, err := p.Count(ctx)
				ok(t, err)
				if n != 6 {
					t.Errorf("it counts %d books", n)
				}
			}
			n, err := s.count(ctx, "SELECT count(*) FROM books")
			ok(t, err)
			if n != 6 {
				t.Errorf("the unit sees %d books", n)
			}
			s.want(t, 0, 0)
			return end
		})
		is(t, err, end)
	}
	s.want(t, 2, 6)
	clear(t, s)
}

// failsAlone has the library fail in a transaction of its own, which the unit tolerates.
func failsAlone(t *testing.T, s *shop, p libraries.Program) {
	t.Helper()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, p.Add(ctx, "first", "a"))
		if err := p.Add(ctx, "second", "b", "a"); err == nil {
			t.Error("the same title was stored twice")
		}
		ok(t, p.Add(ctx, "third", "b", "c"))
		titles, err := p.Titles(ctx, "third")
		equal(t, "titles", titles, "b", "c")
		return err
	}))
	s.want(t, 2, 3)
	clear(t, s)
}

// needsTheUnit uses the program without the unit's context.
func needsTheUnit(t *testing.T, s *shop, p libraries.Program) {
	t.Helper()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, p.Add(ctx, "first", "a"))
		is(t, p.Add(t.Context(), "second", "b"), dbscope.ErrNoScope)
		_, err := p.Titles(t.Context(), "first")
		is(t, err, dbscope.ErrNoScope)
		_, err = p.Count(t.Context())
		is(t, err, dbscope.ErrNoScope)
		return nil
	}))
	s.want(t, 1, 1)
}

// A program that had to know of dbscope would show nothing.
func TestNoProgramKnowsOfDBScope(t *testing.T) {
	files, err := filepath.Glob("*.go")
	ok(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		ok(t, err)
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.Contains(line, `"github.com/dbscope/dbscope`) && !strings.Contains(line, "/tests/libraries/") {
				t.Errorf("%s imports %s", file, strings.TrimSpace(line))
			}
		}
	}
}
