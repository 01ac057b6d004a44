package libraries_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// What docs/libraries.md says of single libraries.

type author struct {
	ID   int `bun:",pk,autoincrement"`
	Name string
}

// TableName is GORM's.
func (author) TableName() string { return "authors" }

func gormOn(t *testing.T, s *shop, config *gorm.Config, opts ...sqlscope.SQLOption) (orm *gorm.DB) {
	t.Helper()
	config.Logger = logger.Discard
	ok(t, s.SetUp(func(handle *sql.DB) (err error) {
		orm, err = gorm.Open(map[string]gorm.Dialector{
			"postgres": postgres.New(postgres.Config{Conn: handle}),
			"mysql":    mysql.New(mysql.Config{Conn: handle}),
			"sqlite":   sqlite.New(sqlite.Config{Conn: handle}),
		}[s.dialect], config)
		return err
	}, opts...))
	return orm
}

func TestGORMTranslatesTheErrorsOfAUnit(t *testing.T) {
	onEach(t, "", func(t *testing.T, s *shop) {
		orm := gormOn(t, s, &gorm.Config{TranslateError: true})
		for how, create := range map[string]func(tx *gorm.DB) error{
			"Create":    func(tx *gorm.DB) error { return tx.Create(&author{Name: "a"}).Error },
			"RETURNING": func(tx *gorm.DB) error { return tx.Clauses(clause.Returning{}).Create(&author{Name: "a"}).Error },
		} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, create(orm.WithContext(ctx)))
				return create(orm.WithContext(ctx))
			})
			if !errors.Is(err, gorm.ErrDuplicatedKey) {
				t.Errorf("%s: %T %v", how, err, err)
			}
		}
	})
}

// GORM wraps each Create in a transaction of its own.
func TestAFailedCreateOfGORMDoomsAUnitThatItHasJoined(t *testing.T) {
	onEach(t, "", func(t *testing.T, s *shop) {
		for name, want := range map[string]error{"savepoints": nil, "joining": dbscope.ErrRolledBack, "without its own": nil} {
			var opts []sqlscope.SQLOption
			if name != "savepoints" {
				opts = append(opts, sqlscope.JoinBegin())
			}
			if name == "without its own" && s.dialect == "postgres" {
				want = dbscope.ErrRolledBack // since a failed statement aborts the transaction there
			}
			orm := gormOn(t, s, &gorm.Config{SkipDefaultTransaction: name == "without its own"}, opts...)
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, orm.WithContext(ctx).Create(&author{Name: "a"}).Error)
				if orm.WithContext(ctx).Create(&author{Name: "a"}).Error == nil {
					t.Error("a name was stored twice")
				}
				return nil
			}), want)
			clear(t, s)
		}
	})
}

func TestGORMsPreparedStatementsAreAnyUnits(t *testing.T) {
	onEach(t, "", func(t *testing.T, s *shop) {
		orm := gormOn(t, s, &gorm.Config{PrepareStmt: true})
		for _, name := range []string{"a", "b", "c"} {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return orm.WithContext(ctx).Create(&author{Name: name}).Error }))
		}
		s.want(t, 3, 0)
	})
}

// One of its two goroutines finds the session busy.
func TestBunsScanAndCountNeedsAGoroutineLess(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		orm := bun.NewDB(s.SQL(), pgdialect.New())
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, s.exec(ctx, "INSERT INTO authors (name) VALUES ('a'), ('b')"))
			busy := false
			for range 50 { // it may go well
				var all []author
				_, err := orm.NewSelect().Model(&all).ModelTableExpr("authors AS author").Limit(1).ScanAndCount(ctx)
				busy = busy || errors.Is(err, dbscope.ErrSessionBusy)
				if err != nil && !errors.Is(err, dbscope.ErrSessionBusy) {
					t.Fatal(err)
				}
			}
			t.Logf("it met itself: %v", busy)
			var all []author
			query := orm.NewSelect().Model(&all).ModelTableExpr("authors AS author")
			ok(t, query.Scan(ctx))
			n, err := query.Count(ctx)
			if n != 2 || len(all) != 2 {
				t.Errorf("%d rows, %d counted", len(all), n)
			}
			return err
		}))
	})
}

// The DB of pgxscope has what scany's pgxscan asks for.
func TestScanyReadsFromTheDBOfPgxscope(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		if s.pgx == nil {
			t.Skip("it is for pgx")
		}
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, s.exec(ctx, "INSERT INTO authors (name) VALUES ('a')"))
			var names []string
			ok(t, pgxscan.Select(ctx, s.pgx, &names, "SELECT name FROM authors"))
			equal(t, "names", names, "a")
			return errStop
		}), errStop)
		s.want(t, 0, 0)
	})
}

// A library that was opened and has closed its handle leaves the others alone.
func TestALibraryThatFailsToOpenTakesNothingFromOthers(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		handle := s.SQL()
		ok(t, handle.Close()) // as gorm.Open does where it fails
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := s.SQL().ExecContext(ctx, "INSERT INTO authors (name) VALUES ('a')")
			return err
		}))
		s.want(t, 1, 0)
	})
}
