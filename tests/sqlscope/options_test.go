package sqlscope_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

func TestTheOptionsOfAScopeReachTheDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			if d.ofMySQL {
				reachMariaDB(t, d)
			}
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

func reachMariaDB(t *testing.T, d *opened) {
	for want, opts := range map[string][]dbscope.Option{
		"REPEATABLE READ 0": nil,
		"READ COMMITTED 0":  {dbscope.Isolation(sql.LevelReadCommitted)},
		"REPEATABLE READ 1": {dbscope.ReadOnly()},
		"SERIALIZABLE 1":    {dbscope.Isolation(sql.LevelSerializable), dbscope.ReadOnly()},
	} {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var got string
			ok(t, d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(new(int))) // or InnoDB has nothing to tell
			time.Sleep(110 * time.Millisecond)                                     // what is asked for more often it answers from memory
			ok(t, d.QueryRowContext(ctx, "SELECT concat_ws(' ', trx_isolation_level, trx_is_read_only) "+
				"FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = connection_id()").Scan(&got))
			if got != want {
				t.Errorf("the transaction is %s, want %s", got, want)
			}
			return nil
		}, opts...))
	}
}
