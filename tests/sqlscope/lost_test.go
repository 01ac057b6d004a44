package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

func onEachFaulty(t *testing.T, test func(t *testing.T, d *opened, f *faults), opts ...dbscope.DBOption) {
	for name, d := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			o, f := openFaulty(t, d, opts...)
			test(t, o, f)
		})
	}
}

const storeOne = "INSERT INTO t (id) VALUES (1)"

// ways to run a statement without arguments, which database/sql runs again
// after driver.ErrBadConn.
var ways = map[string]func(ctx context.Context, d *opened, query string) error{
	"ExecContext": func(ctx context.Context, d *opened, query string) error {
		_, err := d.ExecContext(ctx, query)
		return err
	},
	"SQL().ExecContext": func(ctx context.Context, d *opened, query string) error {
		_, err := d.SQL().ExecContext(ctx, query)
		return err
	},
	"SQL().QueryContext": func(ctx context.Context, d *opened, query string) error {
		if !d.mysql { // which has no rows of such statements
			query += " RETURNING id"
		}
		rows, err := d.SQL().QueryContext(ctx, query)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	},
	"the handle": func(ctx context.Context, d *opened, query string) error {
		tx, err := d.handle(ctx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, query)
		return err
	},
	"a connection of SQL()": func(ctx context.Context, d *opened, query string) error {
		c, err := d.SQL().Conn(ctx)
		if err != nil {
			return err
		}
		_, err = c.ExecContext(ctx, query)
		return errors.Join(err, c.Close())
	},
	"a transaction of SQL()": func(ctx context.Context, d *opened, query string) error {
		tx, err := d.SQL().BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, query); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	},
	"a prepared statement": func(ctx context.Context, d *opened, query string) error {
		stmt, err := d.SQL().PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx)
		return errors.Join(err, stmt.Close())
	},
}

func TestAStatementWhoseConnectionIsLostNeverRunsAgainOrOutsideTheTransaction(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		for way, run := range ways {
			for name, fault := range map[string][2]error{
				"before it is sent": {sqldriver.ErrBadConn, nil},
				"after it was sent": {nil, sqldriver.ErrBadConn},
			} {
				f.at(storeOne, fault[0], fault[1])
				sent := f.count(storeOne)
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 2))
					err := run(ctx, d, storeOne)
					if err == nil {
						t.Errorf("%s, lost %s: no error", way, name)
					}
					is(t, insert(ctx, d, 3), dbscope.ErrRolledBack)
					return nil
				})
				is(t, err, dbscope.ErrRolledBack)
				if errors.Is(err, sqldriver.ErrBadConn) {
					t.Error("the error makes database/sql try again")
				}
				if n := f.count(storeOne) - sent; n > 1 || n == 1 && fault[0] != nil {
					t.Errorf("%s, lost %s: it ran %d times", way, name, n)
				}
				if got := d.stored(t); got != nil {
					t.Fatalf("%s, lost %s: stored %v", way, name, got)
				}
			}
		}
	})
}

func TestAPrepareOrSavepointWhoseConnectionIsLostIsNotTriedElsewhere(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		for _, at := range []struct{ text, way string }{{"PREPARE " + storeOne, "a prepared statement"}, {"SAVEPOINT", "a transaction of SQL()"}} {
			f.at(at.text, nil, sqldriver.ErrBadConn)
			sent := f.count(at.text)
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				if err := ways[at.way](ctx, d, storeOne); err == nil {
					t.Error("no error")
				}
				return nil
			}), dbscope.ErrRolledBack)
			if n := f.count(at.text) - sent; n != 1 {
				t.Errorf("%s was sent %d times", at.text, n)
			}
		}
		if got := d.stored(t); got != nil {
			t.Errorf("stored %v", got)
		}
	})
}

func TestADriverThatSkipsToPreparingRunsEachStatementOnceInTheTransaction(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		for way, run := range ways {
			if way == "a prepared statement" {
				continue
			}
			f.skip(storeOne)
			before := f.count("PREPARE " + storeOne)
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				ok(t, run(ctx, d, storeOne))
				return sql.ErrNoRows
			})
			is(t, err, sql.ErrNoRows)
			if n := f.count("PREPARE "+storeOne) - before; n != 1 {
				t.Errorf("%s: prepared %d times", way, n)
			}
			if got := d.stored(t); got != nil {
				t.Fatalf("%s: stored %v", way, got)
			}
		}
	})
}

func TestAQueryThatIsPreparedFirstEndsWithItsContext(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		query := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"
		switch {
		case d.postgres:
			query = "SELECT 1 FROM pg_sleep(60)"
		case d.ofMySQL:
			query = "SELECT sleep(60)"
		}
		f.skip(query)
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			return d.QueryRowContext(ctx, query).Scan(new(int))
		}), context.DeadlineExceeded)
	})
}

func TestALostAnswerToCommitIsUnknownAndNotTriedAgain(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		f.at("COMMIT", nil, sqldriver.ErrBadConn)
		err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) })
		is(t, err, dbscope.ErrCommitUnknown)
		if got := d.stored(t); len(got) != 1 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestADeadConnectionFoundAtBeginIsReplaced(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }))
		f.once("BEGIN", sqldriver.ErrBadConn)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
		if got := d.stored(t); len(got) != 2 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestABackendThatIsTerminatedInsideAUnitLosesItWhole(t *testing.T) {
	for name, d := range databases {
		pid := "SELECT pg_backend_pid()"
		switch {
		case d.ofMySQL:
			pid = "SELECT connection_id()"
		case !d.postgres:
			continue // SQLite has no backend to lose
		}
		t.Run(name, func(t *testing.T) {
			o := open(t, d)
			terminate := func(ctx context.Context) {
				var id int
				ok(t, o.QueryRowContext(ctx, pid).Scan(&id))
				if d.ofMySQL {
					ok(t, o.kill(id))
					return
				}
				_, err := o.other.Exec("SELECT pg_terminate_backend($1, 10000)", id)
				ok(t, err)
			}
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, o, 1))
				terminate(ctx)
				if _, err := o.SQL().ExecContext(ctx, "INSERT INTO t (id) VALUES (2)"); err == nil {
					t.Error("a statement ran on a terminated backend")
				}
				is(t, insert(ctx, o, 3), dbscope.ErrRolledBack)
				return nil
			})
			is(t, err, dbscope.ErrRolledBack)

			err = dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, o, 4))
				terminate(ctx)
				return nil // the COMMIT meets the closed connection
			})
			if err == nil {
				t.Error("a commit on a terminated backend succeeded")
			}
			if got := o.stored(t); got != nil {
				t.Errorf("stored %v", got)
			}
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, o, 5) }))
		})
	}
}
