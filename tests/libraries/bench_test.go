package libraries_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/libraries"
)

// BenchmarkReadInATransaction reads what belongs to a row by each library: in a unit, and
// in a transaction on the one connection of a plain pool, in turn, so that both have the
// same machine. It reports the ratio of the medians.
func BenchmarkReadInATransaction(b *testing.B) {
	for _, d := range []struct{ name, driver, dialect, dsn string }{
		{"SQLite", "sqlite3", "sqlite", "file:" + filepath.Join(b.TempDir(), "bench.db")},
		{"PostgreSQL", "pgx", "postgres", ""},
	} {
		b.Run(d.name, func(b *testing.B) {
			if d.dsn == "" {
				d.dsn = pgtest.Shared(b).CreateDatabase(b)
			}
			pool, err := sql.Open(d.driver, d.dsn)
			ok(b, err)
			defer func() { ok(b, pool.Close()) }()
			pool.SetMaxOpenConns(1)
			for _, query := range []string{
				"CREATE TABLE authors (id INTEGER PRIMARY KEY, name VARCHAR(100))",
				"CREATE TABLE books (id INTEGER PRIMARY KEY, author_id INTEGER, title VARCHAR(100))",
				"INSERT INTO authors (id, name) VALUES (1, 'a')", "INSERT INTO books (id, author_id, title) VALUES (1, 1, 'b'), (2, 1, 'c')",
			} {
				_, err := pool.Exec(query)
				ok(b, err)
			}
			db := sqlscope.Open(d.driver, d.dsn)
			defer func() { ok(b, db.Close()) }()
			for name, open := range all {
				b.Run(name, func(b *testing.B) {
					plain, err := open(pool, d.dialect)
					ok(b, err)
					var scoped libraries.Program
					ok(b, db.SetUp(func(handle *sql.DB) (err error) {
						scoped, err = open(handle, d.dialect)
						return err
					}))
					compare(b, pool, plain, scoped)
				})
			}
		})
	}
}

func compare(b *testing.B, pool *sql.DB, plain, scoped libraries.Program) {
	_, err := pool.Exec("BEGIN")
	ok(b, err)
	var byHand, inUnit []time.Duration
	ok(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
		measure := func(ctx context.Context, p libraries.Program, all *[]time.Duration) {
			began := time.Now()
			titles, err := p.Titles(ctx, "a")
			*all = append(*all, time.Since(began))
			if len(titles) != 2 {
				b.Fatal(titles, err)
			}
		}
		for b.Loop() {
			measure(b.Context(), plain, &byHand)
			measure(ctx, scoped, &inUnit)
		}
		return nil
	}, dbscope.ReadOnly()))
	_, err = pool.Exec("ROLLBACK")
	ok(b, err)
	slices.Sort(byHand)
	slices.Sort(inUnit)
	plainly, unit := byHand[len(byHand)/2], inUnit[len(inUnit)/2]
	b.ReportMetric(float64(plainly.Nanoseconds()), "ns/plain")
	b.ReportMetric(float64(unit.Nanoseconds()), "ns/unit")
	b.ReportMetric(float64(unit)/float64(plainly), "ratio")
}
