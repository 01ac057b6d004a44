package sqlscope_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// many is more than the core tries one after the other.
const many = 12

// firsts are statements that a unit may begin with.
var firsts = map[string]func(ctx context.Context, d *opened) error{
	"ExecContext": func(ctx context.Context, d *opened) error { return insert(ctx, d, 1) },
	"QueryRowContext": func(ctx context.Context, d *opened) error {
		return d.QueryRowContext(ctx, "SELECT 1").Scan(new(int))
	},
	"PrepareContext": func(ctx context.Context, d *opened) error {
		s, err := d.PrepareContext(ctx, "SELECT 1")
		if err == nil {
			err = s.Close()
		}
		return err
	},
	"a transaction of SQL()": func(ctx context.Context, d *opened) error {
		tx, err := d.SQL().BeginTx(ctx, nil)
		if err == nil {
			err = insert(ctx, tx, 1)
		}
		if err == nil {
			err = tx.Commit()
		}
		return err
	},
	"the handle": func(ctx context.Context, d *opened) error {
		tx, err := d.handle(ctx)
		if err == nil {
			err = insert(ctx, tx, 1)
		}
		return err
	},
}

// endAll ends all sessions of the database but the one that does it.
func (d *opened) endAll(t *testing.T) {
	all, id := "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()", "pid"
	if d.ofMySQL {
		all, id = "information_schema.processlist WHERE db = database() AND id <> connection_id()", "id"
	}
	rows, err := d.other.Query("SELECT " + id + " FROM " + all)
	ok(t, err)
	ids := scan(t, rows)
	if len(ids) < many {
		t.Fatalf("there are only %d sessions", len(ids))
	}
	for _, id := range ids {
		if d.ofMySQL {
			ok(t, d.kill(id))
			continue
		}
		_, err := d.other.Exec("SELECT pg_terminate_backend($1)", id)
		ok(t, err)
	}
	drivertest.Eventually(t, "all have ended", func() bool {
		n := 1
		ok(t, d.other.QueryRow("SELECT count(*) FROM "+all).Scan(&n))
		return n == 0
	})
}

// Nothing of a unit was sent yet, so it need not know. The pool is used before,
// or not: its very first use finds out which database it is.
func TestPooledConnectionsThatTheServerHasEndedAreReplaced(t *testing.T) {
	for name, database := range bySqlscope() {
		if !database.postgres && !database.ofMySQL {
			continue // SQLite has no server
		}
		dsn := database.dsn(t)
		for first, run := range firsts {
			for _, used := range []bool{true, false} {
				if !used && first != "ExecContext" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, used before: %v", name, first, used), func(t *testing.T) {
					d := openOn(t, database.driver, dsn)
					unit := func() error {
						return dbscope.Run(t.Context(), func(ctx context.Context) error { return run(ctx, d) })
					}
					pool, err := d.scoped.(overSQL).Engine(t.Context())
					ok(t, err)
					pool.SetMaxIdleConns(many)
					if used {
						ok(t, unit())
						_, err = d.other.Exec("DELETE FROM t")
						ok(t, err)
					}
					fill(t, pool)
					fill(t, pool) // pgx asks those that were never used, or idle for more than a second
					d.endAll(t)
					ok(t, unit())
				})
			}
		}
	}
}

// fill lets the pool have many idle connections.
func fill(t *testing.T, pool *sql.DB) {
	var all, taken sync.WaitGroup
	taken.Add(many)
	for range many {
		all.Go(func() {
			c, err := pool.Conn(t.Context())
			taken.Done()
			if err != nil {
				t.Error(err)
				return
			}
			taken.Wait()
			ok(t, c.Close())
		})
	}
	all.Wait()
}
