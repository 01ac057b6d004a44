package scopetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/scopetest"
	"github.com/dbscope/dbscope/tests/settings"
)

var as, errNobody = settings.As, settings.ErrNobody

// withSettings runs a test in a test, on a DB with settings of its contexts.
func withSettings(t *testing.T, test func(ctx context.Context, t *testing.T, d opened)) {
	for name, adapter := range adapters {
		if adapter.kind != isPostgreSQL {
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := opened{adapter.open(adapter.dsn(t), settings.FromContext), adapter.kind}
			d.prepare(t)
			t.Run("in a test", func(t *testing.T) { test(scopetest.Rollback(t, d), t, d) })
		})
	}
}

// has compares a setting of the unit with what it should be.
func has(ctx context.Context, t *testing.T, d opened, name, want string) {
	t.Helper()
	var got string
	ok(t, d.SQL().QueryRowContext(ctx, "SELECT coalesce(current_setting($1, true), '')", name).Scan(&got))
	if got != want {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func TestSettingsAreThoseOfTheUnitAlsoInsideAnotherOne(t *testing.T) {
	withSettings(t, func(ctx context.Context, t *testing.T, d opened) {
		a, b := []string{"app.tenant", "a"}, []string{"app.tenant", "b", "statement_timeout", "1h"}
		for _, end := range []error{nil, errStop} {
			is(t, dbscope.Run(as(ctx, a...), func(ctx context.Context) error {
				has(ctx, t, d, "app.tenant", "a")
				is(t, dbscope.Run(as(ctx, b...), func(ctx context.Context) error {
					has(ctx, t, d, "app.tenant", "b")
					has(ctx, t, d, "statement_timeout", "1h")
					return end
				}), end)
				has(ctx, t, d, "app.tenant", "a")
				has(ctx, t, d, "statement_timeout", "0")
				ok(t, d.Commit(ctx))
				has(ctx, t, d, "app.tenant", "a")
				is(t, d.Atomic(ctx, func(ctx context.Context) error {
					ok(t, dbscope.Run(as(ctx, b...), func(ctx context.Context) error { has(ctx, t, d, "app.tenant", "b"); return nil }))
					has(ctx, t, d, "app.tenant", "a")
					has(ctx, t, d.beside(), "app.tenant", "a")
					return end
				}), end)
				has(ctx, t, d, "app.tenant", "a")
				ok(t, dbscope.Run(as(ctx), func(ctx context.Context) error { has(ctx, t, d, "app.tenant", ""); return nil }))
				is(t, d.Atomic(ctx, func(context.Context) error { return end }), end)
				has(ctx, t, d, "app.tenant", "a")
				ok(t, d.AfterCommit(as(ctx, b...), func(ctx context.Context) error { has(ctx, t, d, "app.tenant", "a"); return nil }))
				return end
			}), end)
			ok(t, dbscope.Run(as(ctx), func(ctx context.Context) error {
				has(ctx, t, d, "app.tenant", "")
				has(ctx, t, d, "statement_timeout", "0")
				return nil
			}))
		}
	})
}

func (d opened) beside() opened { return opened{d.other(), d.kind} }

func TestAFixtureHasSettingsOfItsOwn(t *testing.T) {
	withSettings(t, func(ctx context.Context, t *testing.T, d opened) {
		fixture := scopetest.Fixture(ctx)
		is(t, insert(fixture, d, 1), errNobody)
		ok(t, insert(as(fixture, "app.tenant", "a"), d, 1))
		has(as(fixture, "app.tenant", "b"), t, d, "app.tenant", "b")
		if n := scopetest.Count(as(ctx, "app.tenant", "a"), d, "t"); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
		ok(t, dbscope.Run(as(ctx, "app.tenant", "a"), func(ctx context.Context) error {
			has(ctx, t, d, "app.tenant", "a")
			return nil
		}))
		is(t, insert(as(ctx, "app.tenant", "a"), d, 1), dbscope.ErrNoScope)
	})
}

// Each has its own when it is committed, though another one was the last to use the
// connection.
func TestUnitsThatCommitTogetherHaveTheirOwnSettings(t *testing.T) {
	withSettings(t, func(ctx context.Context, t *testing.T, d opened) {
		ok(t, d.detachedAs(ctx, "CREATE TABLE seen (tenant text, at text)"))
		g := dbscope.NewGroup(ctx)
		g.CommitTogether()
		for _, name := range []string{"a", "b", "c"} {
			g.Go(func(ctx context.Context) error {
				ctx = as(ctx, "app.tenant", name)
				note := func(ctx context.Context) error {
					return d.exec(ctx, fmt.Sprintf("INSERT INTO seen VALUES ('%s', current_setting('app.tenant'))", name))
				}
				return errors.Join(dbscope.BeforeCommit(ctx, func(context.Context) error { return note(ctx) }), note(ctx))
			})
		}
		ok(t, g.Wait())
		var wrong, all int
		ok(t, d.SQL().QueryRowContext(as(scopetest.Fixture(ctx)), "SELECT count(*) FILTER (WHERE tenant <> at), count(*) FROM seen").Scan(&wrong, &all))
		if wrong != 0 || all != 6 {
			t.Errorf("%d of %d statements had the settings of another unit", wrong, all)
		}
	})
}

func (d opened) detachedAs(ctx context.Context, query string) error {
	return dbscope.Run(as(ctx), func(ctx context.Context) error { return d.exec(ctx, query) })
}

// A role that may do little must not keep the next unit from having its own.
func TestARoleIsTheUnitsOwn(t *testing.T) {
	withSettings(t, func(ctx context.Context, t *testing.T, d opened) {
		ok(t, d.detachedAs(ctx, "DO $$BEGIN CREATE ROLE dbscope_little; EXCEPTION WHEN duplicate_object THEN END$$"))
		ok(t, dbscope.Run(as(ctx, "session_replication_role", "replica", "role", "dbscope_little"), func(ctx context.Context) error {
			has(ctx, t, d, "role", "dbscope_little")
			ok(t, dbscope.Run(as(ctx, "session_replication_role", "local"), func(ctx context.Context) error {
				has(ctx, t, d, "role", "none")
				has(ctx, t, d, "session_replication_role", "local")
				return nil
			}))
			has(ctx, t, d, "role", "dbscope_little")
			has(ctx, t, d, "session_replication_role", "replica")
			return nil
		}))
		ok(t, insert(as(scopetest.Fixture(ctx)), d, 1))
	})
}

func TestASettingThatTheServerRefusesSpoilsOnlyItsUnit(t *testing.T) {
	withSettings(t, func(ctx context.Context, t *testing.T, d opened) {
		ok(t, dbscope.Run(as(ctx, "app.tenant", "a"), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			for _, bad := range [][]string{{"nothing_of_this_name", "x"}, {"app.tenant", "b", "statement_timeout", "soon"}} {
				err := dbscope.Run(as(ctx, bad...), func(ctx context.Context) error {
					err := insert(ctx, d, 2)
					if err == nil || !strings.Contains(err.Error(), bad[len(bad)-2]) {
						t.Errorf("the statement answers %v", err)
					}
					return nil
				})
				is(t, err, dbscope.ErrRolledBack)
				has(ctx, t, d, "app.tenant", "a")
				want(ctx, t, d, 1)
			}
			return nil
		}))
	})
}
