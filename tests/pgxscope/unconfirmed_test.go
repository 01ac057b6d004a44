package pgxscope_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// PostgreSQL calls a COMMIT done whose wait for a synchronous standby was
// cancelled, by statement_timeout for one, and only warns.
func TestACommitThatNoStandbyHasConfirmedIsUnknown(t *testing.T) {
	server := pgtest.Start(t, "synchronous_standby_names = 'nobody'")
	dsn := server.CreateDatabase(t)
	server.Query(t, dsn, "CREATE TABLE t (id int)")
	for name, c := range map[string]struct {
		token bool
		opts  []dbscope.DBOption
	}{
		"alone":                        {},
		"with a token":                 {true, []dbscope.DBOption{fixedHost()}},
		"that the server would settle": {opts: []dbscope.DBOption{dbscope.SettleByStatus()}},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement, c.opts...)
			ctx := t.Context()
			if c.token {
				ctx = dbscope.ReadYourWrites(ctx, "")
			}
			cancelled := make(chan struct{})
			go func() {
				defer close(cancelled)
				for server.Query(t, dsn, "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "0" {
					time.Sleep(time.Millisecond)
				}
			}()
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				_, err := d.Exec(ctx, "INSERT INTO t VALUES (1)")
				return err
			})
			<-cancelled
			if !errors.Is(err, dbscope.ErrCommitUnknown) || !errors.Is(err, driver.ErrUnconfirmed) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
