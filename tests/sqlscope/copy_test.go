package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/dbscope/dbscope"
)

// preparer is where lib/pq's COPY can begin.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// copying are the ways to a COPY: each passes what prepares it to fn, and ends
// its own transaction, where it has one, as fn returns.
var copying = map[string]func(ctx context.Context, d *opened, fn func(ctx context.Context, in preparer) error) error{
	"the handle": func(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
		tx, err := d.handle(ctx)
		if err != nil {
			return err
		}
		return fn(ctx, tx.(*sql.Tx))
	},
	"a transaction of SQL()": inTx,
	"a connection of SQL()": func(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
		c, err := d.SQL().Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return fn(ctx, c)
	},
	"the DB": func(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
		return fn(ctx, d)
	},
	"a block": func(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
		return d.Atomic(ctx, func(ctx context.Context) error { return inTx(ctx, d, fn) })
	},
	"a Group": func(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
		g := dbscope.NewGroup(ctx)
		g.Go(func(ctx context.Context) error { return inTx(ctx, d, fn) })
		return g.Wait()
	},
	"no unit": func(_ context.Context, d *opened, fn func(context.Context, preparer) error) error {
		return inTx(context.Background(), d, fn)
	},
}

func inTx(ctx context.Context, d *opened, fn func(context.Context, preparer) error) error {
	tx, err := d.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// onEachCopy runs a test for each way, over an empty table.
func onEachCopy(t *testing.T, test func(t *testing.T, d *opened, copying func(context.Context, func(context.Context, preparer) error) error)) {
	d := open(t, databases["PostgreSQL by pq"], dbscope.AllowUnscoped())
	for name, way := range copying {
		t.Run(name, func(t *testing.T) {
			_, err := d.other.Exec("DELETE FROM t")
			ok(t, err)
			test(t, d, func(ctx context.Context, fn func(context.Context, preparer) error) error { return way(ctx, d, fn) })
			if n := d.inUse(t); n != 0 {
				t.Errorf("%d connections are in use", n)
			}
		})
	}
}

// rows sends rows by a COPY that is left open.
func rows(ctx context.Context, in preparer, ids ...int) (*sql.Stmt, error) {
	stmt, err := in.PrepareContext(ctx, "COPY t (id) FROM STDIN")
	for _, id := range ids {
		if err == nil {
			_, err = stmt.ExecContext(ctx, id)
		}
	}
	return stmt, err
}

func TestACopyIsStoredHoweverItIsEnded(t *testing.T) {
	for name, end := range map[string]func(context.Context, *sql.Stmt) error{
		"by Close": func(_ context.Context, s *sql.Stmt) error { return s.Close() },
		"by Exec":  func(ctx context.Context, s *sql.Stmt) error { _, err := s.ExecContext(ctx); return err },
		"by both": func(ctx context.Context, s *sql.Stmt) error {
			_, err := s.ExecContext(ctx)
			return errors.Join(err, s.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachCopy(t, func(t *testing.T, d *opened, copying func(context.Context, func(context.Context, preparer) error) error) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					return copying(ctx, func(ctx context.Context, in preparer) error {
						stmt, err := rows(ctx, in, 1, 2)
						if err != nil {
							return err
						}
						return end(ctx, stmt)
					})
				}))
				if got := d.stored(t); len(got) != 2 {
					t.Errorf("stored %v", got)
				}
			})
		})
	}
}

// duplicate reports whether an error is PostgreSQL's of a duplicate key.
func duplicate(err error) bool {
	var failed *pq.Error
	return errors.As(err, &failed) && failed.SQLState() == "23505"
}

func TestTheFailureOfACopyThatIsEndedByCloseIsTold(t *testing.T) {
	onEachCopy(t, func(t *testing.T, d *opened, copying func(context.Context, func(context.Context, preparer) error) error) {
		var closed error
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			return copying(ctx, func(ctx context.Context, in preparer) error {
				stmt, err := rows(ctx, in, 1, 2, 1)
				ok(t, err)
				closed = stmt.Close()
				return nil
			})
		})
		if !duplicate(err) || !errors.Is(err, dbscope.ErrRolledBack) || errors.Is(err, dbscope.ErrCommitUnknown) {
			t.Errorf("the unit's error is %v", err)
		}
		if strings.Contains(t.Name(), "transaction") && !duplicate(closed) {
			t.Errorf("Close returned %v", closed)
		}
		if got := d.stored(t); got != nil {
			t.Errorf("stored %v", got)
		}
	})
}

func TestAStatementAfterACopyThatFailedIsRefusedWithItsError(t *testing.T) {
	for _, way := range []string{"the handle", "a connection of SQL()"} {
		t.Run(way, func(t *testing.T) {
			d := open(t, databases["PostgreSQL by pq"])
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				return copying[way](ctx, d, func(ctx context.Context, in preparer) error {
					stmt, err := rows(ctx, in, 1, 1)
					ok(t, err)
					_ = stmt.Close()
					if err := insert(ctx, d, 3); !duplicate(err) {
						t.Errorf("the statement's error is %v", err)
					}
					return nil
				})
			}), dbscope.ErrRolledBack)
		})
	}
}

func TestACopyThatFailsIsUndoneWithItsBlockAlone(t *testing.T) {
	d := open(t, databases["PostgreSQL by pq"])
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 10))
		err := d.Atomic(ctx, func(ctx context.Context) error {
			return copying["the handle"](ctx, d, func(ctx context.Context, in preparer) error {
				stmt, err := rows(ctx, in, 1, 1)
				ok(t, err)
				_ = stmt.Close()
				return nil
			})
		})
		if !duplicate(err) {
			t.Errorf("the block's error is %v", err)
		}
		return insert(ctx, d, 11)
	}))
	if got := d.stored(t); len(got) != 2 {
		t.Errorf("stored %v", got)
	}
}

// A failure that is found by the end of the block, as that of a RELEASE is, and
// not by Close, undoes the whole unit.
func TestACopyWhoseFailureTheEndOfItsBlockFindsUndoesTheUnit(t *testing.T) {
	d := open(t, databases["PostgreSQL by pq"])
	is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 10))
		err := d.Atomic(ctx, func(ctx context.Context) error {
			return copying["a connection of SQL()"](ctx, d, func(ctx context.Context, in preparer) error {
				stmt, err := rows(ctx, in, 1, 1)
				ok(t, err)
				return stmt.Close()
			})
		})
		if !duplicate(err) {
			t.Errorf("the block's error is %v", err)
		}
		return nil
	}), dbscope.ErrRolledBack)
	if got := d.stored(t); got != nil {
		t.Errorf("stored %v", got)
	}
}

// The server takes all that is sent while a COPY is open for rows.
func TestNothingIsSentBesideAnOpenCopy(t *testing.T) {
	d := open(t, databases["PostgreSQL by pq"])
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := d.handle(ctx)
		ok(t, err)
		stmt, err := rows(ctx, tx.(*sql.Tx), 1)
		ok(t, err)
		is(t, insert(ctx, d, 2), dbscope.ErrSessionBusy)
		is(t, d.QueryRowContext(ctx, "SELECT 1").Scan(new(int)), dbscope.ErrSessionBusy)
		_, err = d.PrepareContext(ctx, "SELECT 1")
		is(t, err, dbscope.ErrSessionBusy)
		_, err = d.SQL().BeginTx(ctx, nil)
		is(t, err, dbscope.ErrSessionBusy)
		_, err = rows(ctx, tx.(*sql.Tx))
		is(t, err, dbscope.ErrSessionBusy)
		_, err = stmt.ExecContext(ctx, 3)
		ok(t, err)
		ok(t, stmt.Close())
		return insert(ctx, d, 4)
	}))
	if got := d.stored(t); len(got) != 3 {
		t.Errorf("stored %v", got)
	}
}

func TestACopyThatIsLeftOpenIsNotCommitted(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{"alone": nil, "with a question before the commit": {dbscope.SettleByStatus()}} {
		t.Run(name, func(t *testing.T) {
			for _, failed := range []error{nil, sql.ErrNoRows} {
				d := open(t, databases["PostgreSQL by pq"], opts...)
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					tx, err := d.handle(ctx)
					ok(t, err)
					_, err = rows(ctx, tx.(*sql.Tx), 1, 2)
					ok(t, err)
					return failed
				})
				switch {
				case failed != nil:
					is(t, err, failed)
				case !errors.Is(err, dbscope.ErrRolledBack) || !strings.Contains(err.Error(), "a COPY is still open"):
					t.Errorf("the error is %v", err)
				}
				if got := d.stored(t); got != nil {
					t.Errorf("stored %v", got)
				}
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 3) }))
				if n := d.dialed.Load(); n != 1 {
					t.Errorf("%d connections were made: the first was not given back alive", n)
				}
			}
		})
	}
}

func TestACopyThatIsLeftOpenInABlockIsUndone(t *testing.T) {
	for failed, stored := range map[error]int{nil: 0, sql.ErrNoRows: 2} {
		d := open(t, databases["PostgreSQL by pq"])
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 10))
			if d.Atomic(ctx, func(ctx context.Context) error {
				return copying["a connection of SQL()"](ctx, d, func(ctx context.Context, in preparer) error {
					_, err := rows(ctx, in, 1, 2)
					ok(t, err)
					return failed
				})
			}) == nil {
				t.Error("the block was kept")
			}
			if failed == nil {
				return nil
			}
			return insert(ctx, d, 11)
		})
		if failed == nil {
			is(t, err, dbscope.ErrRolledBack)
		} else {
			ok(t, err)
		}
		if got := d.stored(t); len(got) != stored {
			t.Errorf("stored %v", got)
		}
	}
}
