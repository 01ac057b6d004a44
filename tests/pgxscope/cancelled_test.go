package pgxscope_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// cancels makes pgx cancel the statement of a context that has ended, instead of
// closing its connection.
func cancels(config *pgxpool.Config) {
	config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 10 * time.Second}
	}
}

const sessionsOf = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

// Requests that are cancelled one after the other.
func TestAUnitWhoseStatementWasCancelledLeavesNoSessionOnTheServer(t *testing.T) {
	const units, conns = 10, 2
	for _, mode := range modes {
		for name, test := range map[string]struct {
			configure func(*pgxpool.Config)
			reused    bool
		}{
			"pgx closes the connection": {func(*pgxpool.Config) {}, false},
			"pgx cancels the statement": {cancels, true},
		} {
			t.Run(mode.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				dsn := createDatabase(t)
				d := openPool(t, dsn, dsn, func(config *pgxpool.Config) {
					config.MaxConns, config.ConnConfig.DefaultQueryExecMode = conns, mode
					test.configure(config)
				})
				for id := range units {
					first := id%2 == 0 // the statement that BEGIN travels with
					is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
						if !first {
							if _, err := d.Exec(ctx, "INSERT INTO t (id) VALUES ($1)", id); err != nil {
								return err
							}
						}
						_, err := d.Exec(whileAsleep(ctx, t, dsn), "SELECT pg_sleep(60)")
						is(t, err, context.Canceled)
						if _, err := d.Exec(ctx, "INSERT INTO t (id) VALUES ($1)", 1000+id); err == nil {
							t.Error("a statement runs in a transaction that is aborted")
						}
						return nil // which ignores all that
					}), dbscope.ErrRolledBack)
				}
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.Exec(ctx, "INSERT INTO t (id) VALUES (7)")
					return err
				}))
				if ids := d.stored(t); !slices.Equal(ids, []int{7}) {
					t.Errorf("%v are stored", ids)
				}
				if n := d.dialed.Load(); test.reused && n > 1 || !test.reused && n < units {
					t.Errorf("%d connections were made", n)
				}
				drivertest.Eventually(t, "the sessions are no more than the pool's", func() bool {
					return pgtest.Shared(t).Query(t, dsn, sessionsOf) <= "2"
				})
			})
		}
	}
}

// whileAsleep returns a context that is cancelled when a session of the database
// sleeps.
func whileAsleep(ctx context.Context, t *testing.T, dsn string) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		defer cancel()
		other, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = other.Close(context.Background()) }()
		for sleeping := 0; sleeping == 0; {
			err := other.QueryRow(context.Background(),
				"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&sleeping)
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	return ctx
}

// A cancel request may come at any moment: before the statement, which BEGIN
// travels with, while it runs, or when it is over.
func TestACancelRequestAtAnyMomentChangesNoOutcome(t *testing.T) {
	dsn := createDatabase(t)
	d := openPool(t, dsn, dsn, func(config *pgxpool.Config) { cancels(config); config.MaxConns = 8 })
	var (
		mu   sync.Mutex
		want []int
		all  sync.WaitGroup
	)
	for worker := range 16 {
		all.Go(func() {
			for n := range 25 {
				id := 1000*worker + n
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					soon, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3_000))*time.Microsecond)
					defer cancel()
					if _, err := d.Exec(soon, "INSERT INTO t (id) VALUES ($1)", id); err != nil {
						return err
					}
					_, err := d.Exec(ctx, "INSERT INTO t (id) VALUES ($1)", -id-1)
					return err
				})
				if err == nil {
					mu.Lock()
					want = append(want, id, -id-1)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.Sort(want)
	if got := d.stored(t); !slices.Equal(got, want) {
		t.Errorf("%d rows are stored, %d were said to be", len(got), len(want))
	}
	if len(want) == 0 || len(want) == 2*16*25 {
		t.Errorf("%d of %d units were stored: the test shows nothing", len(want)/2, 16*25)
	}
}

// late is a context that ends when somebody asks for its end.
type late struct {
	context.Context
	end context.CancelFunc
}

func (l late) Done() <-chan struct{} {
	l.end()
	return l.Context.Done()
}

// pgx sends nothing then, and only the rows tell: that is no reason to say that it has
// sent the query without BEGIN, and to close the connection.
func TestAQueryWhoseContextEndsAsItIsSentTellsThat(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, mode)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if _, err := d.Exec(ctx, "SELECT $1::int", make(chan int)); err == nil { // opens, and sends no BEGIN
					t.Fatal("a channel was sent")
				}
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				err := d.QueryRow(late{ctx, cancel}, "SELECT 1 WHERE $1 = 1", 1).Scan(new(int))
				is(t, err, context.Canceled)
				return insert(context.WithoutCancel(ctx), d, 1)
			}))
			want(t, "stored", d.stored(t), 1)
			if n := d.dialed.Load(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}
