package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// database/sql locks a statement's connection when its sql.Result is read. A
// unit that waits in the database for the reader's row must not hold that
// lock: the reader would wait for it, and both for ever.
func TestReadingAResultDoesNotWaitForAUnitThatWaitsForTheReader(t *testing.T) {
	const update = "UPDATE t SET parent = 1 WHERE id = 1"
	for way, exec := range map[string]func(ctx context.Context, d *opened, stmt *sql.Stmt) (sql.Result, error){
		"ExecContext": func(ctx context.Context, d *opened, _ *sql.Stmt) (sql.Result, error) {
			return d.ExecContext(ctx, update)
		},
		"SQL().ExecContext": func(ctx context.Context, d *opened, _ *sql.Stmt) (sql.Result, error) {
			return d.SQL().ExecContext(ctx, update)
		},
		"a prepared statement": func(ctx context.Context, _ *opened, stmt *sql.Stmt) (sql.Result, error) {
			return stmt.ExecContext(ctx)
		},
		"a transaction of SQL()": func(ctx context.Context, d *opened, _ *sql.Stmt) (sql.Result, error) {
			tx, err := d.SQL().BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			res, err := tx.ExecContext(ctx, update)
			return res, errors.Join(err, tx.Commit())
		},
		"the handle": func(ctx context.Context, d *opened, _ *sql.Stmt) (sql.Result, error) {
			tx, err := d.handle(ctx)
			if err != nil {
				return nil, err
			}
			return tx.ExecContext(ctx, update)
		},
	} {
		t.Run(way, func(t *testing.T) {
			onEach(t, func(t *testing.T, d *opened) {
				stmt, err := d.SQL().PrepareContext(t.Context(), update)
				ok(t, err)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }))
				other := make(chan error)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					res, err := exec(ctx, d, stmt)
					ok(t, err)
					go func() {
						other <- dbscope.Run(t.Context(), func(ctx context.Context) error {
							_, err := exec(ctx, d, stmt)
							return err
						})
					}()
					d.waits(t)
					read := make(chan error)
					go func() {
						n, err := res.RowsAffected()
						if n != 1 {
							t.Errorf("%d rows affected", n)
						}
						read <- err
					}()
					select {
					case err := <-read:
						return err
					case <-time.After(time.Minute):
						t.Error("reading the result hangs")
						return nil
					}
				}))
				ok(t, <-other)
				ok(t, stmt.Close())
			})
		})
	}
}

// waits returns when a second unit waits for a lock of the first.
func (d *opened) waits(t *testing.T) {
	query := "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
	switch {
	case d.ofMySQL:
		query = "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON trx_mysql_thread_id = id " +
			"WHERE trx_state = 'LOCK WAIT' AND db = database()"
	case !d.postgres:
		drivertest.Eventually(t, "the second unit has a connection", func() bool { return d.inUse(t) == 2 })
		time.Sleep(20 * time.Millisecond) // the wait itself shows nowhere
		return
	}
	drivertest.Eventually(t, "the second unit waits", func() bool {
		if d.ofMySQL {
			time.Sleep(110 * time.Millisecond) // what is asked for more often it answers from memory
		}
		var n int
		ok(t, d.other.QueryRow(query).Scan(&n))
		return n == 1
	})
}

// Rule 9.
func TestTheDBsMethodsTellWhyTheContextEnded(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		gone := errors.New("the client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			cancel(gone)
			_, err := d.ExecContext(ctx, storeOne)
			is(t, err, gone)
			is(t, err, context.Canceled)
			if db, native := d.scoped.(overPgx); native {
				_, err = db.Query(ctx, "SELECT id FROM t")
				is(t, err, gone)
				is(t, db.QueryRow(ctx, "SELECT id FROM t").Scan(new(int)), gone)
				return nil // the rest is SQL()'s, where database/sql answers itself
			}
			_, err = d.QueryContext(ctx, "SELECT id FROM t")
			is(t, err, gone)
			_, err = d.PrepareContext(ctx, "SELECT id FROM t")
			is(t, err, gone)
			is(t, d.QueryRowContext(ctx, "SELECT id FROM t").Scan(new(int)), gone)
			return nil
		}))
	})
}

func TestADeadlineDuringBeginIsNotCalledACancellation(t *testing.T) {
	d := open(t, databases["SQLite"])
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 1)) // holds SQLite's one write lock
		inner, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		err := dbscope.Run(inner, func(ctx context.Context) error { return insert(ctx, d, 2) })
		is(t, err, context.DeadlineExceeded)
		if errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
		return nil
	}))
}
