package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// inRun runs an Atomic block in a unit, after what else the unit does.
func inRun(ctx context.Context, d *opened, before, block func(context.Context) error) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if before != nil {
			if err := before(ctx); err != nil {
				return err
			}
		}
		return d.Atomic(ctx, block)
	})
}

// aside runs a function that may end its goroutine.
func aside(fn func()) {
	var wg sync.WaitGroup
	wg.Go(fn)
	wg.Wait()
}

// nests are the ways to nest a function in a scope.
func nests(d *opened) map[string]func(context.Context, func(context.Context) error) error {
	return map[string]func(context.Context, func(context.Context) error) error{
		"Run":    func(ctx context.Context, fn func(context.Context) error) error { return dbscope.Run(ctx, fn) },
		"Atomic": func(ctx context.Context, fn func(context.Context) error) error { return d.Atomic(ctx, fn) },
		"Group": func(ctx context.Context, fn func(context.Context) error) error {
			g := dbscope.NewGroup(ctx)
			g.Go(fn)
			return g.Wait()
		},
		"a Group that commits together": func(ctx context.Context, fn func(context.Context) error) error {
			g := dbscope.NewGroup(ctx)
			g.CommitTogether()
			g.Go(fn)
			return g.Wait()
		},
	}
}

// ownUnits are the ways to run a function in a transaction with options.
func ownUnits(t *testing.T, d *opened, level sql.IsolationLevel) map[string]func(fn func(context.Context) error, retry dbscope.UnitOption) error {
	return map[string]func(func(context.Context) error, dbscope.UnitOption) error{
		"Run": func(fn func(context.Context) error, retry dbscope.UnitOption) error {
			return dbscope.Run(t.Context(), fn, dbscope.Isolation(level), retry)
		},
		"Atomic": func(fn func(context.Context) error, retry dbscope.UnitOption) error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error {
				return d.Atomic(ctx, fn, dbscope.Isolation(level), retry)
			})
		},
	}
}

// unit is a way to end a transaction in which work was done. It returns what
// the end said.
type unit func(ctx context.Context, d *opened, work func(context.Context) error) error

// early is a unit whose transaction ends before its scope, which then fails.
func early(end func(ctx context.Context, d *opened) error) unit {
	return func(ctx context.Context, d *opened, work func(context.Context) error) (err error) {
		_ = dbscope.Run(ctx, func(ctx context.Context) error {
			if err = work(ctx); err == nil {
				err = end(ctx, d)
			}
			return errStop
		})
		return err
	}
}

// nested is a unit that works in a transaction of SQL().
func nested(end func(*sql.Tx) error, opts ...sqlscope.SQLOption) unit {
	return func(ctx context.Context, d *opened, work func(context.Context) error) error {
		return dbscope.Run(ctx, func(ctx context.Context) error {
			tx, err := d.SQL(opts...).BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(work(ctx), end(tx))
		})
	}
}

func commit(ctx context.Context, d *opened) error { return d.Commit(ctx) }

func ofScope(end func(*dbscope.Scope, context.Context) error) func(context.Context, *opened) error {
	return func(ctx context.Context, _ *opened) error {
		scope, _ := dbscope.FromContext(ctx)
		return end(scope, ctx)
	}
}

func ofHandle(commit bool) func(context.Context, *opened) error {
	return func(ctx context.Context, d *opened) error {
		handle, err := d.handle(ctx)
		if err != nil {
			return err
		}
		switch tx := handle.(type) {
		case *sql.Tx:
			if commit {
				return tx.Commit()
			}
			return tx.Rollback()
		case pgxTx:
			if commit {
				return tx.Commit(ctx)
			}
			return tx.Rollback(ctx)
		}
		return errors.New("an unknown handle")
	}
}

// commits are the ways in which a transaction can be committed.
var commits = map[string]unit{
	"Run": func(ctx context.Context, _ *opened, work func(context.Context) error) error {
		return dbscope.Run(ctx, work)
	},
	"Atomic": func(ctx context.Context, d *opened, work func(context.Context) error) (err error) {
		_ = dbscope.Run(ctx, func(ctx context.Context) error {
			err = d.Atomic(ctx, work)
			return errStop
		})
		return err
	},
	"an Atomic block in a transaction": func(ctx context.Context, d *opened, work func(context.Context) error) error {
		return inRun(ctx, d, func(ctx context.Context) error { return insert(ctx, d, 0) }, work)
	},
	"DB.Commit":                              early(commit),
	"Scope.Commit":                           early(ofScope((*dbscope.Scope).Commit)),
	"the handle's Commit":                    early(ofHandle(true)),
	"a transaction of SQL()":                 nested((*sql.Tx).Commit),
	"a transaction of SQL() that has joined": nested((*sql.Tx).Commit, sqlscope.JoinBegin()),
}

// undoings are the ways in which it can be undone.
var undoings = map[string]unit{
	"Run": func(ctx context.Context, _ *opened, work func(context.Context) error) error {
		return dbscope.Run(ctx, func(ctx context.Context) error { return errors.Join(work(ctx), errStop) })
	},
	"a panic": func(ctx context.Context, d *opened, work func(context.Context) error) error {
		defer func() { _ = recover() }()
		return dbscope.Run(ctx, func(ctx context.Context) error { panic(work(ctx)) })
	},
	"Atomic": func(ctx context.Context, d *opened, work func(context.Context) error) error {
		return inRun(ctx, d, nil, func(ctx context.Context) error { return errors.Join(work(ctx), errStop) })
	},
	"an Atomic block in a transaction": func(ctx context.Context, d *opened, work func(context.Context) error) error {
		return dbscope.Run(ctx, func(ctx context.Context) error {
			err := insert(ctx, d, 0)
			_ = d.Atomic(ctx, func(ctx context.Context) error { return errors.Join(work(ctx), errStop) })
			return err
		})
	},
	"DB.Rollback":                            early(func(ctx context.Context, d *opened) error { return d.Rollback(ctx) }),
	"DB.Release":                             early(func(ctx context.Context, d *opened) error { return d.Release(ctx) }),
	"Scope.Rollback":                         early(ofScope((*dbscope.Scope).Rollback)),
	"Scope.End":                              early(ofScope((*dbscope.Scope).End)),
	"the handle's Rollback":                  early(ofHandle(false)),
	"a transaction of SQL()":                 nested((*sql.Tx).Rollback),
	"a transaction of SQL() that has joined": nested((*sql.Tx).Rollback, sqlscope.JoinBegin()),
	"MarkRollback": early(func(ctx context.Context, d *opened) error {
		return errors.Join(dbscope.MarkRollback(ctx), d.Commit(ctx))
	}),
}

func onEachUnit(t *testing.T, units map[string]unit, test func(t *testing.T, d *opened, run unit)) {
	onEach(t, func(t *testing.T, d *opened) {
		for name, run := range units {
			t.Run(name, func(t *testing.T) {
				test(t, d, run)
				if n := d.inUse(t); n != 0 {
					t.Errorf("%d connections are in use", n)
				}
				_, err := d.other.Exec("DELETE FROM t")
				ok(t, err)
			})
		}
	})
}

// R13.
func TestHooksRunHoweverTheTransactionIsCommitted(t *testing.T) {
	onEachUnit(t, commits, func(t *testing.T, d *opened, run unit) {
		var ran []string
		ok(t, run(t.Context(), d, func(work context.Context) error {
			ok(t, insert(work, d, 1))
			ok(t, d.AfterRollback(work, note(&ran, "AfterRollback")))
			ok(t, d.AfterCommit(work, func(ctx context.Context) error {
				ran = append(ran, "AfterCommit")
				outer, _ := dbscope.FromContext(work)
				if own, found := dbscope.FromContext(ctx); !found || own == outer {
					t.Error("AfterCommit has no scope of its own")
				}
				want(t, "stored before AfterCommit", without(d.stored(t), 0), 1, 2)
				return insert(ctx, d, 3)
			}))
			return d.BeforeCommit(work, func(ctx context.Context) error {
				ran = append(ran, "BeforeCommit")
				want(t, "stored before BeforeCommit", d.stored(t))
				rows, err := d.QueryContext(ctx, "SELECT id FROM t ORDER BY id")
				ok(t, err)
				want(t, "seen by BeforeCommit", without(scan(t, rows), 0), 1)
				return insert(ctx, d, 2)
			})
		}))
		equal(t, "hooks", ran, "BeforeCommit", "AfterCommit")
		want(t, "stored", without(d.stored(t), 0), 1, 2, 3)
	})
}

func TestAnErrorOfBeforeCommitPreventsTheCommitHoweverItComes(t *testing.T) {
	onEachUnit(t, commits, func(t *testing.T, d *opened, run unit) {
		refused := errors.New("refused")
		var ran []string
		err := run(t.Context(), d, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			ok(t, d.AfterCommit(ctx, note(&ran, "AfterCommit")))
			ok(t, d.AfterRollback(ctx, func(ctx context.Context) error {
				ran = append(ran, "AfterRollback")
				return insert(ctx, d, 3)
			}))
			ok(t, d.BeforeCommit(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, 2), refused) }))
			return d.BeforeCommit(ctx, note(&ran, "BeforeCommit after an error"))
		})
		is(t, err, refused)
		is(t, err, dbscope.ErrRolledBack)
		equal(t, "hooks", ran, "AfterRollback")
		want(t, "stored", d.stored(t), 3)
	})
}

func TestAfterRollbackRunsHoweverTheTransactionIsUndone(t *testing.T) {
	onEachUnit(t, undoings, func(t *testing.T, d *opened, run unit) {
		var ran []string
		_ = run(t.Context(), d, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			ok(t, d.BeforeCommit(ctx, note(&ran, "BeforeCommit")))
			ok(t, d.AfterCommit(ctx, note(&ran, "AfterCommit")))
			return d.AfterRollback(ctx, func(ctx context.Context) error {
				ran = append(ran, "AfterRollback")
				return insert(ctx, d, 3)
			})
		})
		equal(t, "hooks", ran, "AfterRollback")
		want(t, "stored", without(d.stored(t), 0), 3)
	})
}

// What was committed early does not count: they tell what the scope's end did.
func TestHooksOfAScopeWaitForItsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for name, end := range map[string]func(context.Context, *opened) error{
			"DB.Commit": commit, "the handle's Commit": ofHandle(true),
			"Atomic": func(ctx context.Context, d *opened) error {
				return d.Atomic(ctx, func(context.Context) error { return nil }, dbscope.ContinueOpen)
			},
		} {
			for _, fails := range []error{nil, errStop} {
				var ran []string
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					ok(t, dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
						ran = append(ran, "BeforeCommit")
						return insert(ctx, d, 2)
					}))
					ok(t, dbscope.AfterCommit(ctx, note(&ran, "AfterCommit")))
					ok(t, dbscope.AfterRollback(ctx, note(&ran, "AfterRollback")))
					ok(t, d.AfterCommit(ctx, note(&ran, "DB.AfterCommit")))
					ok(t, end(ctx, d))
					want(t, "stored early", d.stored(t), 1)
					equal(t, "hooks before the end", ran, "DB.AfterCommit")
					return fails
				}), fails)
				hooks := []string{"DB.AfterCommit", "BeforeCommit", "AfterCommit"}
				if fails != nil {
					hooks = []string{"DB.AfterCommit", "AfterRollback"}
				}
				if !slices.Equal(ran, hooks) {
					t.Errorf("%s, then %v: the hooks that ran are %q, want %q", name, fails, ran, hooks)
				}
				_, err := d.other.Exec("DELETE FROM t")
				ok(t, err)
			}
		}
	})
}

// The unit's connection is back in the pool before them.
func TestAfterHooksNeedNoSecondConnection(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		t.Parallel()
		d.leaveOne(t)
		for name, run := range commits {
			ok(t, run(t.Context(), d, func(ctx context.Context) error {
				ok(t, d.AfterCommit(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
					defer cancel()
					if err := insert(ctx, d, 2); err != nil {
						t.Errorf("committed by %s: %v", name, err)
					}
					return nil
				}))
				return insert(ctx, d, 1)
			}))
			_, err := d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	})
}

// note is a hook that tells that it ran.
func note(ran *[]string, what string) func(context.Context) error {
	return func(context.Context) error { *ran = append(*ran, what); return nil }
}

// noted registers after-hooks of the scope and of the session.
func noted(ctx context.Context, t *testing.T, d *opened, who string, ran *[]string) {
	t.Helper()
	ok(t, dbscope.AfterCommit(ctx, note(ran, who+"'s AfterCommit")))
	ok(t, d.AfterCommit(ctx, note(ran, who+"'s DB.AfterCommit")))
	ok(t, dbscope.AfterRollback(ctx, note(ran, who+"'s AfterRollback")))
	ok(t, d.AfterRollback(ctx, note(ran, who+"'s DB.AfterRollback")))
}

func without(ids []int, id int) []int {
	return slices.DeleteFunc(ids, func(i int) bool { return i == id })
}

func sorted(ids <-chan int) []int {
	return slices.Sorted(func(yield func(int) bool) {
		for id := range ids {
			yield(id)
		}
	})
}

// For database/sql the handle that was told is done, refused or not.
func TestAfterACommitOfTheHandleThatIsRefusedThereIsAHandleThatWorks(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for i, commit := range []bool{true, false} {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, d.Atomic(ctx, func(ctx context.Context) error {
					ok(t, insert(ctx, d, 10*i+1))
					is(t, ofHandle(commit)(ctx, d), dbscope.ErrOpenTransaction)
					return nil
				}))
				ok(t, insert(ctx, d, 10*i+2))
				ok(t, d.Atomic(ctx, func(ctx context.Context) error {
					is(t, ofHandle(commit)(ctx, d), dbscope.ErrOpenTransaction)
					h, err := d.handle(ctx)
					ok(t, err)
					return insert(ctx, h, 10*i+3)
				}))
				h, err := d.handle(ctx)
				ok(t, err)
				return insert(ctx, h, 10*i+4)
			}))
		}
		want(t, "stored", d.stored(t), 1, 2, 3, 4, 11, 12, 13, 14)
	})
}

// database/sql calls a transaction done before it commits it.
func TestAHookOfACommitByTheHandleGetsAHandleThatWorks(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			h, err := d.handle(ctx)
			ok(t, err)
			ok(t, insert(ctx, h, 1))
			ok(t, d.BeforeCommit(ctx, func(ctx context.Context) error {
				h, err := d.handle(ctx)
				if err != nil {
					return err
				}
				return insert(ctx, h, 2)
			}))
			return ofHandle(true)(ctx, d)
		}))
		want(t, "stored", d.stored(t), 1, 2)
	})
}
