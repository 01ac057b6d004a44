package sqlscope_test

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope"
)

// onEachRaw runs a test on each database of sqlscope: with pgxscope a handle's Conn is
// pgx's own.
func onEachRaw(t *testing.T, test func(t *testing.T, d *opened, db overSQL), opts ...dbscope.DBOption) {
	for name, one := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			d := open(t, one, opts...)
			test(t, d, d.scoped.(overSQL))
		})
	}
}

// executeRaw executes a statement on the driver's connection.
func executeRaw(ctx context.Context, query string) func(driverConn any) error {
	return func(driverConn any) error {
		_, err := driverConn.(sqldriver.ExecerContext).ExecContext(ctx, query, nil)
		return err
	}
}

func TestRawGivesTheDriversOwnConnectionInTheUnit(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		var outside any
		conn, err := d.other.Conn(t.Context())
		ok(t, err)
		ok(t, conn.Raw(func(driverConn any) error { outside = driverConn; return nil }))
		ok(t, conn.Close())
		for _, end := range []error{errStop, nil} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				ok(t, db.Raw(ctx, func(driverConn any) error {
					if reflect.TypeOf(driverConn) != reflect.TypeOf(outside) {
						t.Errorf("got %T, want %T", driverConn, outside)
					}
					return executeRaw(ctx, "INSERT INTO t (id) VALUES (2)")(driverConn)
				}))
				ok(t, insert(ctx, d, 3))
				want(t, "stored before the end", d.stored(t))
				return end
			}), end)
			if end == nil {
				want(t, "stored", d.stored(t), 1, 2, 3)
			} else {
				want(t, "stored", d.stored(t))
			}
		}
	})
}

func TestRawOpensTheSession(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, db.Raw(ctx, executeRaw(ctx, "INSERT INTO t (id) VALUES (1)")))
			return errStop
		}), errStop)
		want(t, "stored", d.stored(t))
	})
}

func TestNoStatementRunsBesideRawAndRawBesideNone(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, db.Raw(ctx, func(any) error {
				is(t, insert(ctx, d, 1), dbscope.ErrSessionBusy)
				is(t, db.Raw(ctx, func(any) error { t.Error("it was called"); return nil }), dbscope.ErrSessionBusy)
				return nil
			}))
			rows, err := d.QueryContext(ctx, "SELECT id FROM t")
			ok(t, err)
			is(t, db.Raw(ctx, func(any) error { t.Error("it was called"); return nil }), dbscope.ErrSessionBusy)
			ok(t, rows.Err())
			ok(t, rows.Close())
			return nil
		}))
	})
}

func TestTheErrorOfRawIsThatOfItsFunction(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			if err := db.Raw(ctx, func(any) error { return errStop }); err != errStop { //nolint:errorlint // itself
				t.Errorf("got %v", err)
			}
			return insert(ctx, d, 2) // since nothing has happened
		}))
		want(t, "stored", d.stored(t), 1, 2)
	})
}

func TestAStatementThatFailsInRawDoesToTheUnitWhatAnyDoes(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		for name, swallow := range map[string]bool{"told": false, "swallowed": true} {
			t.Run(name, func(t *testing.T) {
				_, err := d.other.Exec("DELETE FROM t")
				ok(t, err)
				err = dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					err := db.Raw(ctx, func(driverConn any) error {
						err := executeRaw(ctx, "INSERT INTO t (id) VALUES (1)")(driverConn)
						if err == nil {
							t.Error("a duplicate was stored")
						}
						if swallow {
							return nil
						}
						return err
					})
					if (err == nil) != (swallow && !d.postgres) {
						t.Errorf("Raw returned %v", err)
					}
					if d.postgres {
						is(t, insert(ctx, d, 2), dbscope.ErrRolledBack)
					}
					return nil
				})
				if d.postgres {
					is(t, err, dbscope.ErrRolledBack)
					want(t, "stored", d.stored(t))
					return
				}
				ok(t, err)
				want(t, "stored", d.stored(t), 1)
			})
		}
	})
}

func TestAFailureInRawCanBeCaughtByAtomic(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			err := d.Atomic(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				return db.Raw(ctx, executeRaw(ctx, "INSERT INTO t (id) VALUES (1)"))
			})
			if err == nil {
				t.Error("a duplicate was stored")
			}
			return insert(ctx, d, 3)
		}))
		want(t, "stored", d.stored(t), 1, 3)
	})
}

func TestATransactionThatWasEndedInRawIsToldAndNothingFollows(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		for i, texts := range [][]string{{"COMMIT"}, {"ROLLBACK"}, {"COMMIT", "BEGIN"}, {"ROLLBACK", "BEGIN"}} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 10*i+1))
				err := db.Raw(ctx, func(driverConn any) error {
					for _, text := range texts {
						ok(t, executeRaw(ctx, text)(driverConn))
					}
					return nil
				})
				if err == nil {
					t.Errorf("%v was not noticed", texts)
				}
				if insert(ctx, d, 10*i+2) == nil {
					t.Errorf("after %v a statement was let through", texts)
				}
				return nil
			})
			is(t, err, dbscope.ErrCommitUnknown)
		}
		want(t, "stored", d.stored(t), 1, 21)
		want(t, "connections in use", []int{d.inUse(t)}, 0)
	})
}

func TestAPanicInRawCostsTheConnection(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			func() {
				defer func() { _ = recover() }()
				_ = db.Raw(ctx, func(any) error { panic("on purpose") })
			}()
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		want(t, "stored", d.stored(t))
		want(t, "connections in use", []int{d.inUse(t)}, 0)
	})
}

func TestRawWithoutAScopeIsRefused(t *testing.T) {
	onEachRaw(t, func(t *testing.T, _ *opened, db overSQL) {
		is(t, db.Raw(t.Context(), func(any) error { t.Error("it was called"); return nil }), dbscope.ErrNoScope)
	})
}

func TestRawWithoutAScopeIsOfThePoolWhereThatIsAllowed(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		ok(t, db.Raw(t.Context(), executeRaw(t.Context(), "INSERT INTO t (id) VALUES (1)")))
		is(t, db.Raw(t.Context(), func(any) error { return errStop }), errStop)
		want(t, "stored", d.stored(t), 1)
		want(t, "connections in use", []int{d.inUse(t)}, 0)
	}, dbscope.AllowUnscoped())
}

// An adopted transaction is a *sql.Tx, whose connection database/sql shows to nobody.
func TestRawRefusesAnAdoptedTransaction(t *testing.T) {
	onEachRaw(t, func(t *testing.T, d *opened, db overSQL) {
		tx, err := d.other.BeginTx(t.Context(), nil)
		ok(t, err)
		ctx, ended, err := db.Adopt(t.Context(), tx)
		ok(t, err)
		if err := db.Raw(ctx, func(any) error { t.Error("it was called"); return nil }); err == nil {
			t.Error("it was not refused")
		}
		ok(t, insert(ctx, d, 1)) // which it does nothing to
		ok(t, tx.Commit())
		ok(t, ended(ctx, true))
		want(t, "stored", d.stored(t), 1)
	})
}

// What people take the driver's connection for.
func TestRawReachesPgxAndPq(t *testing.T) {
	for _, name := range []string{"PostgreSQL by pgx", "PostgreSQL by pq"} {
		d := open(t, databases[name])
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return d.scoped.(overSQL).Raw(ctx, func(driverConn any) error {
				switch c := driverConn.(type) {
				case *stdlib.Conn:
					return c.Conn().QueryRow(ctx, "INSERT INTO t (id) VALUES (1) RETURNING id").Scan(new(int))
				case sqldriver.ConnPrepareContext:
					st, err := c.PrepareContext(ctx, "COPY t (id) FROM STDIN")
					if err != nil {
						return err
					}
					_, err = st.Exec([]sqldriver.Value{int64(1)}) //nolint:staticcheck // what pq has
					_, ended := st.Exec(nil)                      //nolint:staticcheck // what pq has
					return errors.Join(err, ended, st.Close())
				}
				return errors.ErrUnsupported
			})
		}))
		want(t, "stored", d.stored(t), 1)
	}
}

// Documented: the Raw of a *sql.Conn shows dbscope's own.
func TestTheRawOfAHandlesConnectionShowsNothingOfTheDrivers(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			conn, err := d.SQL().Conn(ctx)
			ok(t, err)
			ok(t, conn.Raw(func(driverConn any) error {
				if _, is := driverConn.(*stdlib.Conn); is {
					t.Error("it shows pgx's")
				}
				return nil
			}))
			return conn.Close()
		}))
	})
}
