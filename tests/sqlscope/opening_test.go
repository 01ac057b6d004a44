package sqlscope_test

import (
	"context"
	"testing"

	"github.com/dbscope/dbscope"
)

func TestAUnitWhoseFirstStatementCouldNotBeginIsNotStoredInPart(t *testing.T) {
	for name, d := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			o, f := openFaulty(t, d)
			for _, way := range []string{"ExecContext", "SQL().ExecContext", "the handle"} {
				f.once("BEGIN", errStop)
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					is(t, ways[way](ctx, o, "INSERT INTO t (id) VALUES (1)"), errStop)
					is(t, ways[way](ctx, o, "INSERT INTO t (id) VALUES (2)"), dbscope.ErrRolledBack)
					return nil
				})
				is(t, err, dbscope.ErrRolledBack)
				is(t, err, errStop)
				want(t, way, o.stored(t))
			}
			f.once("BEGIN", errStop)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				is(t, insert(ctx, o, 1), errStop)
				ok(t, o.Rollback(ctx))
				return insert(ctx, o, 2)
			}))
			want(t, "stored", o.stored(t), 2)
		})
	}
}
