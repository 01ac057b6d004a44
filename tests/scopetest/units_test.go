package scopetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
)

func TestAGroupThatCommitsTogetherDoes(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			for _, end := range []error{nil, errStop} {
				var all sync.WaitGroup
				all.Add(4)
				g := dbscope.NewGroup(ctx)
				g.CommitTogether()
				for i := range 4 {
					g.Go(func(ctx context.Context) error {
						defer all.Done()
						ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error { return insert(ctx, d, 10+i) }))
						return insert(ctx, d, i)
					})
				}
				g.Go(func(context.Context) error { all.Wait(); return end })
				is(t, g.Wait(), end)
				want(ctx, t, d, 8)
				ok(t, d.exec(ctx, "DELETE FROM t WHERE id >= 100"))
				if end == nil {
					ok(t, d.exec(ctx, "UPDATE t SET id = id + 20"))
				}
			}
		})
	})
}

func TestASiblingThatIsUndoneTakesNothingAlongInSilence(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			other := opened{d.other(), d.kind}
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				ok(t, insert(ctx, other, 2))
				ok(t, insert(ctx, d, 3))
				return other.Rollback(ctx) // and 3 with it, because the connection is one
			}), dbscope.ErrRolledBack)
			want(ctx, t, d, 0)
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				ok(t, insert(ctx, other, 2))
				ok(t, other.Rollback(ctx))
				return insert(ctx, d, 3)
			}))
			want(ctx, t, d, 2)
		})
	})
}

func TestAUnitThatEndsWhileRowsAreOpenInsideIsUndone(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, insert(ctx, d, 1))
			var done func()
			is(t, dbscope.Run(ctx, func(context.Context) error { // its context is not used below
				return dbscope.Run(ctx, func(inner context.Context) error {
					ok(t, insert(inner, d, 2))
					done = d.open(ctx, "SELECT id FROM t")
					return nil
				})
			}), dbscope.ErrRolledBack)
			done()
			want(ctx, t, d, 1)
		})
	})
}

func TestAUnitThatAnotherGoroutineEndsWaitsForRows(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			unit, scope := dbscope.Begin(ctx)
			ok(t, insert(unit, d, 1))
			done := d.open(ctx, "SELECT id FROM t")
			ended := make(chan error)
			go func() { ended <- scope.Commit(unit) }()
			time.Sleep(50 * time.Millisecond)
			done()
			ok(t, <-ended)
			ok(t, scope.End(unit))
			want(ctx, t, d, 1)
		})
	})
}

func TestUnitsThatGoOnAfterTheTestAreRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		begun := make(chan context.Context, 1)
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			unit, _ := dbscope.Begin(context.WithoutCancel(ctx))
			ok(t, insert(unit, d, 1))
			ok(t, d.Commit(unit)) // nothing is open, but the unit keeps the connection
			begun <- unit
		})
		unit := <-begun
		if err := insert(unit, d, 2); err == nil || !strings.Contains(err.Error(), "the test is over") {
			t.Errorf("error is %v", err)
		}
		if err := dbscope.Run(unit, store(d, 3, nil)); err == nil || !strings.Contains(err.Error(), "the test is over") {
			t.Errorf("error is %v", err)
		}
		scope, _ := dbscope.FromContext(unit)
		ok(t, scope.End(unit))
	})
}

// Deferred calls run before the test's transaction ends.
func TestADatabaseMayBeClosedByADefer(t *testing.T) {
	for name, adapter := range adapters {
		t.Run(name, func(t *testing.T) {
			db := adapter.open(adapter.dsn(t))
			defer func() { ok(t, db.Close()) }()
			ctx := scopetest.Rollback(t, db)
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return db.exec(ctx, "SELECT 1") }))
		})
	}
}

func TestAStatementThatRunsAtTheEndIsWaitedFor(t *testing.T) {
	on(t, isPostgreSQL|isMariaDB, func(t *testing.T, d opened) {
		var statement sync.WaitGroup
		failsWith(t, d, func(ctx context.Context) {
			started := make(chan struct{})
			statement.Go(func() {
				err := dbscope.Run(context.WithoutCancel(ctx), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					close(started)
					return sleep(ctx, d, 0.3)
				})
				if err == nil {
					t.Error("a unit that the test did not wait for was committed")
				}
			})
			<-started
			time.Sleep(50 * time.Millisecond)
		}, "a unit of work is still open")
		statement.Wait()
	})
}

// What would be deferred to COMMIT is done when a unit ends, and stays done.
func TestDeferredTriggersRunAtTheEndOfAUnit(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, d.exec(ctx, `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN INSERT INTO t (id) VALUES (NEW.id + 1000); RETURN NULL; END $$`))
			ok(t, d.exec(ctx, `CREATE CONSTRAINT TRIGGER note AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW WHEN (NEW.id < 1000) EXECUTE FUNCTION note()`))
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				want(ctx, t, d, 1)
				return nil
			}))
			want(ctx, t, d, 2)
			ok(t, dbscope.Run(ctx, store(d, 2, nil)))
			want(ctx, t, d, 4)
			// And what is not deferred at first stays so.
			ok(t, d.exec(ctx, "CREATE TABLE u (id INTEGER UNIQUE DEFERRABLE INITIALLY IMMEDIATE)"))
			ok(t, d.exec(ctx, "INSERT INTO u VALUES (1)"))
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				if err := d.exec(ctx, "INSERT INTO u VALUES (1)"); err == nil {
					t.Error("a duplicate was deferred")
				}
				return errStop
			}), errStop)
		})
	})
}

func TestCodeThatForgotItsUnitIsToldInATestToo(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		ctx := scopetest.Rollback(t, d)
		is(t, insert(ctx, d, 1), dbscope.ErrNoScope)
		_, err := d.SQL().ExecContext(ctx, "INSERT INTO t (id) VALUES (1)")
		is(t, err, dbscope.ErrNoScope)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			is(t, insert(dbscope.WithoutScope(ctx), d, 1), dbscope.ErrNoScope)
			return insert(ctx, d, 2)
		}))
		is(t, insert(scopetest.Attach(context.Background(), ctx), d, 3), dbscope.ErrNoScope)
		if n := scopetest.Count(ctx, d, "t"); n != 1 { // which needs no unit
			t.Errorf("%d rows", n)
		}
	})
}

func TestAStatementWithoutAUnitThatTheDBAllowsIsTheTestsToo(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(_ context.Context, t *testing.T) {
			ctx := scopetest.Rollback(t, d)
			ok(t, insert(ctx, d, 1))
			want(ctx, t, d, 1)
		})
	}, dbscope.AllowUnscoped())
}

// Each transaction has the options it was begun with, also where another one of
// the same unit had others before.
func TestReadOnlyBlocksBesideWritingOnesObeyTheirOptions(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			write := func(ctx context.Context) error { return insert(ctx, d, 1) }
			read := func(ctx context.Context) error { _, err := d.count(ctx); return err }
			for range 2 {
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
					for _, first := range []bool{true, false} {
						if first {
							ok(t, d.Atomic(ctx, read, dbscope.ReadOnly()))
						}
						if err := d.Atomic(ctx, write, dbscope.ReadOnly()); err == nil {
							t.Error("a read-only block wrote")
						}
						ok(t, d.Atomic(ctx, write))
						ok(t, d.Atomic(ctx, func(ctx context.Context) error { return d.exec(ctx, "DELETE FROM t") }))
					}
					return nil
				}))
			}
			want(ctx, t, d, 0)
		})
	})
}

func TestAStatementOnItsOwnIsCheckedToo(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			is(t, d.exec(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)"), dbscope.ErrRolledBack)
			want(ctx, t, d, 0)
		})
	})
}

func TestTheLedgerIsTheTestsToo(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			is(t, dbscope.Run(ctx, store(d, 1, nil)), dbscope.ErrRolledBack) // there is no ledger yet
		})
		ok(t, d.define(t.Context(), dbscope.LedgerTable))
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, dbscope.Run(ctx, store(d, 1, nil)))
				ok(t, insert(ctx, d, 2))
				return insert(ctx, opened{database: d.other()}, 3)
			}))
			if n := scopetest.Count(ctx, d, "dbscope_ledger"); n != 3 {
				t.Errorf("the ledger has %d rows", n)
			}
			ok(t, d.PurgeLedger(ctx, -time.Hour))
			if n := scopetest.Count(ctx, d, "dbscope_ledger"); n != 0 {
				t.Errorf("the ledger has %d rows", n)
			}
		})
	}, dbscope.SettleByLedger())
}

func TestAUnitIsRunAgainInATest(t *testing.T) {
	again := map[kind]string{
		isPostgreSQL: "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$",
		isMariaDB:    "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",
	}
	test := func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			attempts := 0
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				if attempts++; attempts < 3 {
					return d.exec(ctx, again[d.kind])
				}
				return nil
			}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Millisecond})))
			if attempts != 3 {
				t.Errorf("%d attempts", attempts)
			}
			want(ctx, t, d, 1)
		})
	}
	on(t, isPostgreSQL, test, dbscope.SettleByStatus())
	on(t, isMariaDB, test)
}

func TestTransactionsOfLibrariesAreUnitsToo(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			for i, commit := range []bool{true, false} {
				tx, err := d.SQL().BeginTx(ctx, nil) // under the test's own context
				ok(t, err)
				_, err = tx.Exec(fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", i))
				ok(t, err)
				if commit {
					ok(t, tx.Commit())
				} else {
					ok(t, tx.Rollback())
				}
				want(ctx, t, d, 1)
			}
		})
	}, dbscope.AllowUnscoped())
}

func TestNestedTransactionsOfPgx(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		db, native := d.database.(overPgx)
		if !native {
			return
		}
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				tx, err := db.Session(ctx)
				ok(t, err)
				is(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "INSERT INTO t (id) VALUES (1)")
					return errors.Join(err, errStop)
				}), errStop)
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					batch := &pgx.Batch{}
					batch.Queue("INSERT INTO t (id) VALUES (2)")
					batch.Queue("INSERT INTO t (id) VALUES (3)")
					ok(t, tx.SendBatch(ctx, batch).Close())
					_, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id"}, pgx.CopyFromRows([][]any{{4}}))
					return err
				})
			}))
			want(ctx, t, d, 3)
			// A first statement that fails while it is prepared spoils only its scope.
			if err := dbscope.Run(ctx, func(ctx context.Context) error { return d.exec(ctx, "SELECT nothing($1)") }); err == nil {
				t.Error("no error")
			}
			ok(t, dbscope.Run(ctx, store(d, 5, nil)))
			want(ctx, t, d, 4)
		})
	})
}
