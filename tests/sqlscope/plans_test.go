package sqlscope_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
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
			prepared, err := d.PrepareContext(t.Context(), "SELECT * FROM p WHERE name = $1")
			ok(t, err)
			attempts := 0
			unit := func(ctx context.Context) error {
				attempts++
				for i := range 3 { // which is one less than there are attempts to renew them
					if err := read(d.QueryContext(ctx, fmt.Sprintf("SELECT * FROM p p%d WHERE id > $1", i), 0)); err != nil {
						return err
					}
				}
				return read(prepared.QueryContext(ctx, "nobody"))
			}
			const connections = 4
			atOnce(t, connections, unit)
			_, err = d.other.Exec("ALTER TABLE p ADD COLUMN more INTEGER")
			ok(t, err)
			attempts = 0
			for range connections {
				ok(t, dbscope.Run(t.Context(), unit, dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Nanosecond})))
			}
			if cached := strings.Contains(name, "mode cache_"); cached && attempts == connections {
				t.Error("no plan was refused")
			}
			ok(t, prepared.Close())
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
