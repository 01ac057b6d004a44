package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var errStop = errors.New("stop")

// R17.
func TestEveryWayToRunAStatementIsInTheOneTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, end := range []error{errStop, nil} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				for i, way := range slices.Sorted(mapKeys(ways)) {
					ok(t, ways[way](ctx, d, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", i)))
				}
				rows, err := d.SQL(sqlscope.JoinBegin()).QueryContext(ctx, "SELECT id FROM t ORDER BY id")
				ok(t, err)
				want(t, "seen inside", scan(t, rows), 0, 1, 2, 3, 4, 5, 6)
				if n := d.inUse(t); n != 1 {
					t.Errorf("%d connections are in use", n)
				}
				want(t, "seen outside", d.stored(t))
				return end
			})
			is(t, err, end)
		}
		want(t, "stored", d.stored(t), 0, 1, 2, 3, 4, 5, 6)
	})
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestSQLReturnsTheSameDatabaseForTheSameOptions(t *testing.T) {
	givesTheSame(t, sqlscope.Open("sqlite", "file::memory:"))
	givesTheSame(t, pgxscope.Open("host=nowhere"))
}

// family is the DB of an adapter that has siblings.
type family[DB any] interface {
	comparable
	SQL(opts ...sqlscope.SQLOption) *sql.DB
	Sibling(name string) DB
	Close() error
}

func givesTheSame[DB family[DB]](t *testing.T, d DB) {
	ambient, joining, sibling := d.SQL(), d.SQL(sqlscope.JoinBegin()), d.Sibling("s")
	if d.SQL() != ambient || d.SQL(sqlscope.JoinBegin()) != joining || ambient == joining {
		t.Error("it does not")
	}
	if d.Sibling("s") != sibling || d.Sibling("") != d || sibling.SQL() == ambient {
		t.Error("siblings do not")
	}
	ok(t, d.Close())
}

func TestCloseOfAnySiblingClosesWhatSQLOfAllReturned(t *testing.T) {
	for _, name := range []string{"", "s"} {
		closesAll(t, sqlscope.Open("sqlite", "file::memory:"), name)
		closesAll(t, pgxscope.Open("host=nowhere"), name)
	}
}

func closesAll[DB family[DB]](t *testing.T, d DB, closed string) {
	returned := map[string]*sql.DB{
		"the DB": d.SQL(), "a sibling": d.Sibling("s").SQL(), "another": d.Sibling("t").SQL(sqlscope.JoinBegin()),
	}
	ok(t, d.Sibling(closed).Close())
	for of, db := range returned {
		if _, err := db.Conn(t.Context()); err == nil || err.Error() != "sql: database is closed" {
			t.Errorf("%T, closed by sibling %q: what SQL of %s returned answers %v", d, closed, of, err)
		}
	}
}

func TestStatementsWithoutAScopeAreRefusedAndPingIsNot(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ctx := t.Context()
		ok(t, d.SQL().PingContext(ctx))
		ok(t, d.SQL().Ping())
		for _, run := range ways {
			is(t, run(ctx, d, storeOne), dbscope.ErrNoScope)
		}
		ctx, scope := dbscope.Begin(ctx)
		ok(t, scope.End(ctx))
		for _, run := range ways {
			is(t, run(ctx, d, storeOne), dbscope.ErrScopeEnded)
		}
		want(t, "stored", d.stored(t))
	})
}

func TestAllowUnscopedSendsThemToThePool(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for i, way := range slices.Sorted(mapKeys(ways)) {
			err := ways[way](t.Context(), d, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", i))
			if way == "the handle" {
				is(t, err, dbscope.ErrNoScope)
				continue
			}
			ok(t, err)
		}
		want(t, "stored", d.stored(t), 0, 1, 2, 3, 4, 5)
		tx, err := d.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
		ok(t, err)
		ok(t, insert(t.Context(), tx, 9))
		ok(t, tx.Rollback())
		rows, err := d.QueryContext(t.Context(), "SELECT id FROM t WHERE id > $1 ORDER BY id", 3)
		ok(t, err)
		if d.inUse(t) != 1 {
			t.Error("open rows hold no connection")
		}
		want(t, "seen", scan(t, rows), 4, 5)
		if d.inUse(t) != 0 {
			t.Error("a connection was kept")
		}
		if err := insert(t.Context(), d, 1); err == nil {
			t.Error("a duplicate was stored")
		}
		ok(t, insert(t.Context(), d, 6))
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	}, dbscope.AllowUnscoped())
}

func TestAStatementPreparedOutsideAnyScopeWorksInEach(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, prepare := range []func(context.Context, string) (*sql.Stmt, error){d.PrepareContext, d.SQL().PrepareContext} {
			stmt, err := prepare(t.Context(), "INSERT INTO t (id) VALUES ($1)")
			ok(t, err)
			list, err := prepare(t.Context(), "SELECT id FROM t WHERE id > $1 ORDER BY id")
			ok(t, err)
			_, err = stmt.ExecContext(t.Context(), 1)
			is(t, err, dbscope.ErrNoScope)
			for i, end := range []error{nil, errStop, nil} {
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					for j := range 2 {
						_, err := stmt.ExecContext(ctx, 10*i+j)
						ok(t, err)
					}
					if n, told := d.prepared(ctx, t); told && n != 1 {
						t.Errorf("%d statements are prepared", n)
					}
					rows, err := list.QueryContext(ctx, 10*i-1)
					ok(t, err)
					want(t, "seen", scan(t, rows), 10*i, 10*i+1)
					_, err = stmt.ExecContext(ctx, 1, 2)
					if err == nil {
						t.Error("the number of arguments was not checked")
					}
					return end
				}), end)
			}
			ok(t, stmt.Close())
			ok(t, list.Close())
			want(t, "stored", d.stored(t), 0, 1, 20, 21)
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	})
}

func TestStatementsPreparedAndClosedInAScopeDoNotPileUp(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.SQL().PrepareContext(ctx, "SELECT nonsense FROM nowhere")
			if err == nil {
				t.Error("a wrong query was prepared")
			}
			return d.Rollback(ctx)
		}))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			before, _ := d.prepared(ctx, t)
			for i := range 20 {
				stmt, err := d.SQL().PrepareContext(ctx, fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", i))
				ok(t, err)
				_, err = stmt.ExecContext(ctx)
				ok(t, err)
				ok(t, stmt.Close())
			}
			if n, _ := d.prepared(ctx, t); n > before {
				t.Errorf("%d statements are still prepared", n-before)
			}
			return nil
		}))
	})
}

// prepared counts the INSERT statements that are prepared in ctx's session, on
// MariaDB and MySQL all statements, those that could not be prepared too. SQLite does not
// tell.
func (d *opened) prepared(ctx context.Context, t *testing.T) (n int, told bool) {
	t.Helper()
	switch {
	case d.postgres:
		ok(t, d.QueryRowContext(ctx, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT%'").Scan(&n))
		return n, true
	case d.ofMySQL: // which does not tell their texts
		return d.status(ctx, t, "Com_stmt_prepare") - d.status(ctx, t, "Com_stmt_close"), true
	}
	return 0, false
}

// status returns a number that the server has for ctx's session.
func (d *opened) status(ctx context.Context, t *testing.T, name string) (n int) {
	t.Helper()
	ok(t, d.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE '"+name+"'").Scan(new(string), &n))
	return n
}

func TestAStatementTakenIntoATransactionRunsInIt(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		stmt, err := d.SQL().PrepareContext(t.Context(), "INSERT INTO t (id) VALUES ($1)")
		ok(t, err)
		own, err := d.PrepareContext(t.Context(), "INSERT INTO t (id) VALUES ($1)")
		ok(t, err)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := stmt.ExecContext(ctx, 1)
			ok(t, err)
			tx, err := d.SQL().BeginTx(ctx, nil)
			ok(t, err)
			_, err = tx.StmtContext(ctx, stmt).ExecContext(ctx, 2)
			ok(t, err)
			ok(t, tx.Rollback())
			handle, err := d.handle(ctx)
			ok(t, err)
			taken := own
			if tx, takes := handle.(*sql.Tx); takes { // and a pgx.Tx does not
				taken = tx.StmtContext(ctx, own)
			}
			_, err = taken.ExecContext(ctx, 3)
			return err
		}))
		ok(t, errors.Join(stmt.Close(), own.Close()))
		want(t, "stored", d.stored(t), 1, 3)
	})
}

func TestAPinnedConnectionFollowsTheContextOfEachCall(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		pinned, err := d.SQL().Conn(t.Context())
		ok(t, err)
		for i, end := range []error{nil, errStop, nil} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, pinned, i))
				is(t, insert(t.Context(), pinned, 9), dbscope.ErrNoScope)
				return end
			}), end)
		}
		ok(t, pinned.Close())
		want(t, "stored", d.stored(t), 0, 2)
	})
}

func TestLimitsThatAFrameworkSetsOnSQLDoNotMixUpSessions(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ambient := d.SQL()
		ambient.SetMaxOpenConns(2)
		ambient.SetMaxIdleConns(0)
		ambient.SetConnMaxLifetime(time.Nanosecond)
		ambient.SetConnMaxIdleTime(time.Nanosecond)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					for j := range 3 {
						if err := insert(ctx, ambient, 10*i+j); err != nil {
							return err
						}
					}
					if i%2 == 1 {
						return errStop
					}
					return nil
				})
				if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, errStop) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var ids []int
		for i := 0; i < 20; i += 2 {
			ids = append(ids, 10*i, 10*i+1, 10*i+2)
		}
		want(t, "stored", d.stored(t), ids...)
	})
}

func TestClosingSQLClosesNothingElse(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, d.SQL().Close())
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }))
		want(t, "stored", d.stored(t), 1)
	})
}

// Defect 1: the context ends inside a nested transaction that the outer one
// does without.
func TestANestedTransactionWhoseContextEndsIsUndoneAlone(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			inner, cancel := context.WithCancel(ctx)
			tx, err := d.SQL().BeginTx(inner, nil)
			ok(t, err)
			ok(t, insert(inner, tx, 2))
			cancel()
			// database/sql rolls back from a goroutine of its own.
			for !errors.Is(tx.Commit(), sql.ErrTxDone) {
				time.Sleep(time.Millisecond)
			}
			for errors.Is(insert(ctx, d, 3), dbscope.ErrSessionBusy) {
				time.Sleep(time.Millisecond)
			}
			return nil
		}))
		want(t, "stored", d.stored(t), 1, 3)
	})
}

func TestAJoinedTransactionThatIsUndoneFailsTheCommit(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		joined := d.SQL(sqlscope.JoinBegin())
		for _, c := range []struct {
			end  func(*sql.Tx) error
			want error
		}{{(*sql.Tx).Rollback, dbscope.ErrRolledBack}, {(*sql.Tx).Commit, nil}} {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				tx, err := joined.BeginTx(ctx, nil)
				ok(t, err)
				ok(t, insert(ctx, tx, 1))
				return c.end(tx)
			}), c.want)
		}
		want(t, "stored", d.stored(t), 1)
	})
}

func TestSQLTextCannotEndTheTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			for _, query := range []string{
				"COMMIT", "commit;", " \n\tCommit work", "-- a comment\nROLLBACK", "/* another */ END", "ABORT",
				"BEGIN", "begin immediate", "START TRANSACTION", "PREPARE TRANSACTION 'x'", "ROLLBACK TRANSACTION", ";;commit",
			} {
				for way, run := range ways {
					if strings.Contains(way, "Query") {
						continue // which adds to the text
					}
					is(t, run(ctx, d, query), dbscope.ErrOpenTransaction)
				}
				_, err := d.QueryContext(ctx, query)
				is(t, err, dbscope.ErrOpenTransaction)
			}
			return nil
		}))
	})
}

// As GORM and bun do it.
func TestSavepointsByTextWork(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec := func(query string) error {
				_, err := d.SQL().ExecContext(ctx, query)
				return err
			}
			ok(t, insert(ctx, d, 1))
			ok(t, exec("SAVEPOINT mine"))
			if err := exec("INSERT INTO nowhere VALUES (1)"); err == nil {
				t.Error("nothing was refused")
			}
			ok(t, exec("rollback to savepoint mine"))
			ok(t, exec("RELEASE SAVEPOINT mine"))
			return insert(ctx, d, 2)
		}))
		want(t, "stored", d.stored(t), 1, 2)
	})
}

func TestConstraintsThatFailAtCommitRollBack(t *testing.T) {
	onEachDeferring(t, func(t *testing.T, d *opened) {
		for range 2 { // the second time on the same connection
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)")
				return err
			})
			is(t, err, dbscope.ErrRolledBack)
			if errors.Is(err, dbscope.ErrCommitUnknown) {
				t.Error("a refusal was called unknown")
			}
		}
		want(t, "stored", d.stored(t))
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}
