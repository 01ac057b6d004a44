package sqlscope_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// huge is a query whose rows take hours to read.
func (d *opened) huge() string {
	switch {
	case d.postgres:
		return "SELECT generate_series(1, 10000000000) AS huge"
	case d.mysql:
		var all []string
		for i := range 16 {
			all = append(all, fmt.Sprintf("(SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1) t%d", i))
		}
		return "SELECT /*+ NO_BNL() */ STRAIGHT_JOIN 1 AS huge FROM " + strings.Join(all, ", ") // joined as they are sent
	case d.ofMySQL:
		return "SELECT seq AS huge FROM seq_1_to_10000000000"
	}
	return "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS huge FROM n"
}

// stopHuge ends the connections whose drivers still read such rows.
func (d *opened) stopHuge(t *testing.T) {
	switch {
	case d.postgres:
		_, err := d.other.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity " +
			"WHERE query LIKE '%huge%' AND pid <> pg_backend_pid() AND datname = current_database()")
		ok(t, err)
	case d.ofMySQL:
		rows, err := d.other.Query("SELECT id FROM information_schema.processlist WHERE info LIKE '%huge%' AND id <> connection_id() AND db = database()")
		ok(t, err)
		for _, id := range scan(t, rows) {
			_ = d.kill(id) // fails where it is over
		}
	}
}

// returns fails the test where the function takes more time by far than it may.
func returns(t *testing.T, what string, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(25 * time.Second):
		t.Fatalf("%s does not return", what)
		return nil
	}
}

// What was not sent is not unknown; SQLite's rows end at once.
func TestRowsLeftOpenDoNotHoldAnEndWhateverTheirSize(t *testing.T) {
	undone := func(t *testing.T, d *opened, err error) {
		t.Helper()
		if err != nil || d.postgres || d.ofMySQL {
			is(t, err, dbscope.ErrRolledBack)
		}
		if errors.Is(err, dbscope.ErrCommitUnknown) {
			t.Errorf("COMMIT was not sent, but the error is %v", err)
		}
	}
	ended := func(t *testing.T, _ *opened, err error) { t.Helper(); ok(t, err) }
	cases := []struct {
		name string
		end  func(ctx context.Context, d *opened) error
		told func(t *testing.T, d *opened, err error)
		unit func(t *testing.T, d *opened, err error) // what Run returns
	}{
		{"of the unit", func(context.Context, *opened) error { return nil }, ended, undone},
		{"of a unit with a hook", func(ctx context.Context, d *opened) error {
			return d.BeforeCommit(ctx, func(context.Context) error { return nil })
		}, ended, undone},
		{"by Commit", func(ctx context.Context, d *opened) error { return d.Commit(ctx) }, undone, ended},
		{"by Rollback", func(ctx context.Context, d *opened) error { return d.Rollback(ctx) }, ended, ended},
		{"by Release", func(ctx context.Context, d *opened) error { return d.Release(ctx) }, ended, ended},
		{"of an Atomic block", func(ctx context.Context, d *opened) error {
			return d.Atomic(ctx, func(ctx context.Context) error { return leaveHuge(ctx, d, d) })
		}, undone, undone},
	}
	onEach(t, func(t *testing.T, d *opened) {
		queriers := []querier{d, d.SQL(), d.SQL(sqlscope.JoinBegin())}
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				defer d.stopHuge(t)
				err := returns(t, "the end", func() error {
					return dbscope.Run(t.Context(), func(ctx context.Context) error {
						ok(t, insert(ctx, d, 1))
						if c.name != "of an Atomic block" {
							ok(t, leaveHuge(ctx, d, queriers[i%len(queriers)]))
						}
						c.told(t, d, c.end(ctx, d))
						return nil
					}, dbscope.CommitTimeout(200*time.Millisecond))
				})
				c.unit(t, d, err)
				if d.postgres || d.ofMySQL {
					want(t, "stored", d.stored(t))
				}
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
				d.stopHuge(t)
				drivertest.Eventually(t, "all connections are back", func() bool { return d.inUse(t) == 0 })
				_, err = d.other.Exec("DELETE FROM t")
				ok(t, err)
			})
		}
	})
}

// leaveHuge reads the first row only.
func leaveHuge(ctx context.Context, d *opened, q querier) error {
	rows, err := q.QueryContext(ctx, d.huge())
	if err == nil && !rows.Next() {
		err = errors.New("no row")
	}
	return err
}
