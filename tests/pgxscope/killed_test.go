package pgxscope_test

import (
	"context"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// What a server that dies under a statement or a COMMIT leaves is what it says
// after its restart: nothing of the statement, all of the commit, each once.
func TestAServerThatIsKilledLosesOrKeepsAUnitWhole(t *testing.T) {
	// No standby of this name is there to let a COMMIT return.
	server := pgtest.Start(t, "synchronous_standby_names = 'nobody'")
	dsn := server.CreateDatabase(t)
	server.Query(t, dsn, "CREATE TABLE log (id INTEGER)")
	killWhen := func(activity string) (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			for server.Query(t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE "+activity) == "0" {
				time.Sleep(time.Millisecond)
			}
			server.Kill()
		}()
		return done
	}
	stored := 0
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := openDSN(t, dsn, dsn, mode)
			for name, statement := range map[string]func(ctx context.Context) error{
				"Exec": func(ctx context.Context) error {
					_, err := d.Exec(ctx, "INSERT INTO log SELECT 1 FROM pg_sleep(60)")
					return err
				},
				"SQL": func(ctx context.Context) error { // which database/sql would run again
					_, err := d.SQL().ExecContext(ctx, "INSERT INTO log SELECT 1 FROM pg_sleep(60)")
					return err
				},
			} {
				killed := killWhen("wait_event = 'PgSleep'")
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					if err := statement(ctx); err == nil {
						t.Errorf("%s: no error", name)
					}
					return nil
				}), dbscope.ErrRolledBack)
				<-killed
				server.Restart(t)
			}
			killed := killWhen("wait_event = 'SyncRep'")
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.Exec(ctx, "INSERT INTO log VALUES ($1)", 2)
				return err
			}), dbscope.ErrCommitUnknown)
			<-killed
			server.Restart(t)
			stored++
			if got, want := server.Query(t, dsn, "SELECT count(*), count(*) FILTER (WHERE id = 1) FROM log"), itoa(stored)+"|0"; got != want {
				t.Errorf("the log holds %s, want %s", got, want)
			}
		})
	}
}
