package sqlscope_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/dbscope/dbscope"
)

func TestTheOptionsOfAScopeReachTheDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Run("what it does not have is refused", func(t *testing.T) {
				if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }, dbscope.Deferrable()); err == nil {
					t.Error("no error")
				}
				if n := d.inUse(t); n != 0 {
					t.Errorf("%d connections are in use", n)
				}
			})
			return
		}
		for want, opts := range map[string][]dbscope.Option{
			"read committed off off": nil,
			"serializable off off":   {dbscope.Isolation(sql.LevelSerializable)},
			"read committed on off":  {dbscope.ReadOnly()},
			"serializable on on":     {dbscope.Isolation(sql.LevelSerializable), dbscope.ReadOnly(), dbscope.Deferrable()},
		} {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				var got string
				ok(t, d.QueryRowContext(ctx, "SELECT concat_ws(' ', current_setting('transaction_isolation'), "+
					"current_setting('transaction_read_only'), current_setting('transaction_deferrable'))").Scan(&got))
				if got != want {
					t.Errorf("the transaction is %s, want %s", got, want)
				}
				return nil
			}, opts...))
		}
	})
}
