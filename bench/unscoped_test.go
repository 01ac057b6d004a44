package bench

import (
	"context"
	"database/sql"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// Outside of scopes: a prepared statement, and a query that is none, on the plain
// pool, against those of a DB with AllowUnscoped.
func BenchmarkOutsideOfScopes(b *testing.B) {
	postgres := func(b *testing.B) string { return pgtest.Shared(b).CreateDatabase(b) }
	for name, database := range map[string]struct {
		driver, query string
		dsn           func(b *testing.B) string
		native        bool
	}{
		"SQLite":                 {"sqlite", "SELECT name FROM t WHERE id = ?", func(*testing.B) string { return "file::memory:" }, false},
		"MariaDB":                {"mysql", "SELECT name FROM t WHERE id = ?", func(b *testing.B) string { return mariatest.Shared(b).CreateDatabase(b) }, false},
		"PostgreSQL by pgx":      {"pgx", "SELECT name FROM t WHERE id = $1", postgres, false},
		"PostgreSQL by pq":       {"postgres", "SELECT name FROM t WHERE id = $1", postgres, false},
		"PostgreSQL by pgxscope": {"pgx", "SELECT name FROM t WHERE id = $1", postgres, true},
	} {
		b.Run(name, func(b *testing.B) {
			prepared := func() (pool *sql.DB, dsn string) {
				dsn = database.dsn(b)
				pool, err := sql.Open(database.driver, dsn)
				must(b, err)
				pool.SetMaxOpenConns(1)
				for _, query := range []string{"CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(9))", "INSERT INTO t VALUES (1, 'one')"} {
					_, err = pool.Exec(query)
					must(b, err)
				}
				return pool, dsn
			}
			byHand, _ := prepared()
			under, dsn := prepared()
			var db interface {
				SQL(opts ...sqlscope.SQLOption) *sql.DB
				Close() error
			}
			if database.native {
				db = pgxscope.Open(dsn, dbscope.AllowUnscoped())
			} else {
				db = sqlscope.New(func(context.Context, string) (*sql.DB, error) { return under, nil }, dbscope.AllowUnscoped())
			}
			hand, err := byHand.Prepare(database.query)
			must(b, err)
			ours, err := db.SQL().Prepare(database.query)
			must(b, err)
			use := func(s *sql.Stmt) func() {
				return func() {
					var name string
					if err := s.QueryRow(1).Scan(&name); err != nil {
						b.Fatal(err)
					}
				}
			}
			exec := func(s *sql.Stmt) func() {
				return func() {
					if _, err := s.Exec(1); err != nil {
						b.Fatal(err)
					}
				}
			}
			text := func(db *sql.DB) func() {
				return func() {
					var name string
					if err := db.QueryRow(database.query, 1).Scan(&name); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.Run("prepared query", func(b *testing.B) { compare(b, use(hand), use(ours)) })
			b.Run("prepared exec", func(b *testing.B) { compare(b, exec(hand), exec(ours)) })
			b.Run("query", func(b *testing.B) { compare(b, text(byHand), text(db.SQL())) })
			must(b, hand.Close())
			must(b, ours.Close())
			must(b, byHand.Close())
			must(b, db.Close())
			must(b, under.Close())
		})
	}
}
