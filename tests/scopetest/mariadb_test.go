package scopetest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
)

const commits = "CREATE TABLE u (id INTEGER)"

// onMariaDB is on for tests that store what they should not.
func onMariaDB(t *testing.T, test func(t *testing.T, d opened)) {
	on(t, isMariaDB, func(t *testing.T, d opened) {
		test(t, d)
		ok(t, d.define(t.Context(), "DELETE FROM t"))
	})
}

// told checks an error that tells of a statement that commits.
func told(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), " has committed the transaction") ||
		errors.Is(err, dbscope.ErrRolledBack) {
		t.Errorf("error is %v, want one that tells of the commit", err)
	}
}

func TestAStatementThatCommitsFailsTheTest(t *testing.T) {
	unit := func(end func(error) error) func(context.Context, *testing.T, opened) error {
		return func(ctx context.Context, t *testing.T, d opened) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				ok(t, d.AfterCommit(ctx, func(context.Context) error { t.Error("the unit counts as committed"); return nil }))
				err := d.exec(ctx, commits)
				told(t, err)
				told(t, insert(ctx, d, 3))
				return end(err)
			})
		}
	}
	passes := func(err error) error { return err }
	swallows := func(error) error { return nil }
	for name, run := range map[string]func(context.Context, *testing.T, opened) error{
		"on its own": func(ctx context.Context, t *testing.T, d opened) error {
			ok(t, insert(ctx, d, 2))
			return d.exec(ctx, commits)
		},
		"in a unit": unit(passes),
		"in a unit that ignores it": func(ctx context.Context, t *testing.T, d opened) error {
			err := unit(swallows)(ctx, t, d)
			is(t, err, dbscope.ErrCommitUnknown)
			return err
		},
		"in a unit inside one that ignores it": func(ctx context.Context, t *testing.T, d opened) error {
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, d.exec(ctx, "UPDATE t SET parent = NULL"))
				told(t, unit(passes)(ctx, t, d))
				told(t, insert(ctx, d, 4))
				return nil
			})
			is(t, err, dbscope.ErrCommitUnknown)
			return err
		},
		"in a unit inside one that fails for another reason": func(ctx context.Context, t *testing.T, d opened) error {
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, d.exec(ctx, "UPDATE t SET parent = NULL"))
				told(t, unit(passes)(ctx, t, d))
				return errStop
			})
			is(t, err, errStop)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onMariaDB(t, func(t *testing.T, d opened) {
				failsWith(t, d, func(ctx context.Context) {
					ok(t, dbscope.Run(ctx, store(d, 1, nil)))
					told(t, run(ctx, t, d))
					told(t, dbscope.Run(ctx, store(d, 5, nil)))
					told(t, insert(ctx, d, 6))
				}, "ended behind its back", "may be stored", "the statement CREATE has committed", "on the pool that Engine returns")
				if got := d.stored(t); got != "2 <nil>" {
					t.Errorf("%s rows are stored", got)
				}
			})
		})
	}
}

func TestAProcedureThatCommitsAndBeginsAnewFailsTheTest(t *testing.T) {
	onMariaDB(t, func(t *testing.T, d opened) {
		ok(t, d.define(t.Context(), "CREATE PROCEDURE p() BEGIN COMMIT; START TRANSACTION; END"))
		failsWith(t, d, func(ctx context.Context) {
			ok(t, insert(ctx, d, 1))
			told(t, dbscope.Run(ctx, func(ctx context.Context) error { return d.exec(ctx, "CALL p()") }))
			told(t, dbscope.Run(ctx, store(d, 2, nil)))
		}, "ended behind its back", "may be stored", "the statement CALL has committed")
	})
}

// MariaDB undoes the whole transaction of one of them, which is all of its test.
func TestADeadlockOfTwoTestsFailsOneOfThem(t *testing.T) {
	onMariaDB(t, func(t *testing.T, d opened) {
		ok(t, d.define(t.Context(), "INSERT INTO t (id) VALUES (1), (2)"))
		lock := func(ctx context.Context, id int) error {
			return d.exec(ctx, fmt.Sprintf("UPDATE t SET parent = NULL WHERE id = %d", id))
		}
		var both, tests sync.WaitGroup
		both.Add(2)
		messages := make([]string, 2)
		for i := range messages {
			tests.Go(func() {
				messages[i] = messagesOf(t, d, func(ctx context.Context) {
					err := dbscope.Run(ctx, func(ctx context.Context) error {
						err := lock(ctx, 1+i)
						both.Done()
						both.Wait()
						if err = errors.Join(err, lock(ctx, 2-i)); err == nil {
							return nil
						}
						// The loser goes on as if nothing had happened.
						return errors.Join(err, insert(ctx, d, 3), dbscope.Run(ctx, store(d, 4, nil)), insert(ctx, d, 5))
					})
					if err == nil {
						want(ctx, t, d, 2)
						return
					}
					is(t, err, dbscope.ErrRolledBack)
					is(t, dbscope.Run(ctx, store(d, 6, nil)), dbscope.ErrRolledBack)
				})
			})
		}
		tests.Wait()
		slices.Sort(messages)
		if messages[0] != "" || !strings.Contains(messages[1], "ended behind its back") || !strings.Contains(messages[1], "Error 1213") {
			t.Errorf("the tests' messages are %q", messages)
		}
		if got := d.stored(t); got != "2 <nil>" {
			t.Errorf("%s rows are stored", got)
		}
	})
}
