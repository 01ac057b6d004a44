package scopetest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
)

// recorder is a test that goes on when it fails, and whose end is in our hands.
type recorder struct {
	testing.TB
	ctx      context.Context
	cleanups []func()
	messages []string
}

func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

// messagesOf runs a test and returns what it says when it fails.
func messagesOf(t *testing.T, d opened, test func(ctx context.Context)) string {
	r := &recorder{TB: t, ctx: t.Context()}
	test(scopetest.Fixture(scopetest.Rollback(r, d)))
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.messages, "\n")
}

// failsWith runs a test that must fail with a message that has all the parts.
func failsWith(t *testing.T, d opened, test func(ctx context.Context), parts ...string) {
	t.Helper()
	all := messagesOf(t, d, test)
	for _, part := range parts {
		if !strings.Contains(all, part) {
			t.Errorf("the test's message does not tell %q:\n%s", part, all)
		}
	}
}

func TestAScopeThatIsStillOpenFailsTheTest(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		var scope *dbscope.Scope
		failsWith(t, d, func(ctx context.Context) {
			ctx, scope = dbscope.Begin(ctx)
			ok(t, insert(ctx, d, 1))
		}, "a unit of work is still open", "TestAScopeThatIsStillOpenFailsTheTest", "misuse_test.go:")
		_ = scope.End(t.Context()) // too late, and harmless
	})
}

func TestATransactionThatSomebodyEndedFailsTheTest(t *testing.T) {
	onPostgreSQL(t, func(t *testing.T, d opened) {
		pgx, is := d.database.(overPgx)
		if !is {
			t.Skip("nobody gets at its connection")
		}
		failsWith(t, d, func(ctx context.Context) {
			_ = dbscope.Run(ctx, func(ctx context.Context) error {
				tx, err := pgx.Session(ctx)
				ok(t, err)
				_, err = tx.Conn().Exec(ctx, "ROLLBACK")
				ok(t, err)
				return d.exec(ctx, "SELECT 1")
			})
		}, "ended behind its back")
	})
}

func TestATextThatWouldEndTheTransactionIsRefusedInATestToo(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		ctx := scopetest.Rollback(t, d)
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			for _, text := range []string{"SELECT 1; ROLLBACK", "SELECT 1; RELEASE SAVEPOINT dbscope_unit_1", "ROLLBACK TO dbscope_unit_1"} {
				is(t, d.exec(ctx, text), dbscope.ErrOpenTransaction)
			}
			return nil
		}))
	})
}

func TestRowsThatAreStillOpenFailTheTest(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		ok(t, dbscope.Run(t.Context(), store(d, 1, nil)))
		var done func()
		failsWith(t, d, func(ctx context.Context) { done = d.open(ctx, "SELECT id FROM t") },
			"rows are still open", "TestRowsThatAreStillOpenFailTheTest")
		done()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return d.exec(ctx, "DELETE FROM t") }))
	})
}

// SQLite ends the whole transaction on some errors.
func TestATransactionThatTheDatabaseEndedFailsTheTest(t *testing.T) {
	on(t, isSQLite, func(t *testing.T, d opened) {
		failsWith(t, d, func(ctx context.Context) {
			ok(t, insert(ctx, d, 1))
			if err := dbscope.Run(ctx, func(ctx context.Context) error {
				return d.exec(ctx, "INSERT OR ROLLBACK INTO t (id) VALUES (1)")
			}); err == nil {
				t.Error("a duplicate was stored")
			}
			is(t, dbscope.Run(ctx, store(d, 2, nil)), dbscope.ErrRolledBack)
		}, "ended behind its back")
	})
}

func TestADatabaseThatTheTestHasNotNamedIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		onEach(t, func(t *testing.T, other opened) {
			ctx := scopetest.Rollback(t, d)
			if err := dbscope.Run(ctx, store(other, 1, nil)); err == nil || !strings.Contains(err.Error(), "scopetest.Rollback") {
				t.Errorf("error is %v", err)
			}
		})
	})
}

func TestADeadlockIsToldWithTheStacksOfBoth(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			ok(t, dbscope.Run(ctx, func(outer context.Context) error {
				ok(t, insert(outer, d, 1))
				return dbscope.Run(outer, func(inner context.Context) error {
					ok(t, insert(inner, d, 2))
					err := waits(outer, d)
					is(t, err, dbscope.ErrSessionBusy)
					for _, part := range []string{"deadlock", "scopetest_test.waits", "TestADeadlockIsToldWithTheStacksOfBoth"} {
						if !strings.Contains(err.Error(), part) {
							t.Errorf("the error does not tell %q: %v", part, err)
						}
					}
					return nil
				})
			}))
			want(ctx, t, d, 2)
		})
	})
}

// Each of two units holds a database and waits, in a unit inside it, for the
// other's.
func TestADeadlockOverTwoDatabasesIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, a opened) {
		onEach(t, func(t *testing.T, b opened) {
			t.Run("in a test", func(t *testing.T) {
				ctx := scopetest.Rollback(t, a, b)
				var both sync.WaitGroup
				both.Add(2)
				errs := make(chan error, 2)
				unit := func(first, second opened) {
					errs <- dbscope.Run(ctx, func(ctx context.Context) error {
						ok(t, insert(ctx, first, 1))
						both.Done()
						both.Wait()
						return dbscope.Run(ctx, func(ctx context.Context) error { return waits(ctx, second) })
					})
				}
				go unit(a, b)
				go unit(b, a)
				told, other := <-errs, <-errs
				if told == nil {
					told, other = other, told
				}
				is(t, told, dbscope.ErrSessionBusy)
				ok(t, other) // now that the first is undone
				if n := strings.Count(told.Error(), "scopetest_test.waits"); n != 2 {
					t.Errorf("the error has %d of the two stacks: %v", n, told)
				}
			})
		})
	})
}

func waits(ctx context.Context, d opened) error { return insert(ctx, d, 3) }

func TestRequestsOfAServerRunInTheTest(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		t.Run("in a test", func(t *testing.T) {
			s := scopetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := dbscope.Run(r.Context(), store(d, 1, nil)); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			}), d)
			resp, err := s.Client().Get(s.URL)
			ok(t, err)
			body, err := io.ReadAll(resp.Body)
			ok(t, err)
			ok(t, resp.Body.Close())
			if resp.StatusCode != http.StatusOK {
				t.Errorf("the server answered %d %s", resp.StatusCode, body)
			}
			if n := scopetest.Count(s.Context, d, "t"); n != 1 {
				t.Errorf("%d rows", n)
			}
			// A context of the code's own, brought into the test.
			ok(t, dbscope.Run(scopetest.Attach(context.Background(), s.Context), store(d, 2, nil)))
			if n := scopetest.Count(s.Context, d, "t"); n != 2 {
				t.Errorf("%d rows", n)
			}
		})
		if got := d.stored(t); got != "0 <nil>" {
			t.Errorf("after the test there are %s rows", got)
		}
	})
}
