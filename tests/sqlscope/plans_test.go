package sqlscope_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

// planning are the databases whose servers keep the plans of statements that a
// driver has prepared, in each mode of the driver in which that is so.
func planning() map[string]database {
	all := map[string]database{}
	for name, d := range databases {
		switch {
		case !d.postgres:
		case d.driver == "pgx":
			for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
				inMode := d
				inMode.dsn = func(t *testing.T) string {
					u, err := url.Parse(d.dsn(t))
					ok(t, err)
					q := u.Query()
					q.Set("default_query_exec_mode", mode)
					u.RawQuery = q.Encode()
					return u.String()
				}
				all[name+" in mode "+mode] = inMode
			}
		default:
			all[name] = d
		}
	}
	return all
}

func TestAUnitThatMeetsThePlansOfAnAlteredTableIsRunAgainWithNewOnes(t *testing.T) {
	for name, d := range planning() {
		t.Run(name, func(t *testing.T) {
			d := open(t, d)
			_, err := d.other.Exec("CREATE TABLE p (id INTEGER, name TEXT)")
			ok(t, err)
			const connections, statements = 4, 3
			unit := func(ctx context.Context) error {
				for i := range statements {
					if err := read(d.QueryContext(ctx, fmt.Sprintf("SELECT count(*) FROM p p%d WHERE id > $1", i), 0)); err != nil {
						return err
					}
					rows, err := d.QueryContext(ctx, fmt.Sprintf("SELECT * FROM p p%d WHERE id > $1", i), 0)
					if err != nil {
						return err
					}
					if err := read(rows, nil); err != nil {
						return err
					}
				}
				return nil
			}
			atOnce(t, connections, unit)
			_, err = d.other.Exec("ALTER TABLE p ADD COLUMN more INTEGER")
			ok(t, err)
			for range connections {
				attempts := 0
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					attempts++
					return unit(ctx)
				}, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Nanosecond}))
				if err != nil {
					t.Errorf("after %d attempts: %v", attempts, tree(err))
				}
				t.Logf("%d attempts", attempts)
			}
		})
	}
}

// atOnce runs a unit on so many connections.
func atOnce(t *testing.T, n int, unit func(ctx context.Context) error) {
	t.Helper()
	if n == 0 {
		return
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		if err := unit(ctx); err != nil {
			return err
		}
		atOnce(t, n-1, unit)
		return nil
	}))
}
