package scopetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/scopetest"
)

// panics stands for a handler's argument that panics while it is sent.
type panics struct{}

func (panics) Value() (driver.Value, error) { panic("on purpose") }

// fails stands for an argument that cannot be sent.
type fails struct{}

func (fails) Value() (driver.Value, error) { return nil, errStop }

func TestAUnitThatSendsNothingIsUndone(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		inTest(t, d, func(ctx context.Context, t *testing.T) {
			for range 2 {
				is(t, dbscope.Run(ctx, func(ctx context.Context) error {
					_, err := d.SQL().ExecContext(ctx, "INSERT INTO t (id) VALUES ($1)", fails{})
					return err
				}), errStop)
			}
			ok(t, dbscope.Run(ctx, store(d, 1, nil)))
			want(ctx, t, d, 1)
		})
	})
}

func TestAHandlerThatPanicsUndoesItsUnitAlone(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		_, native := d.database.(overPgx)
		served(t, d, func(_ http.ResponseWriter, r *http.Request) {
			ok(t, insert(r.Context(), d, 2))
			switch {
			case r.URL.Path == "/argument" && !native: // pgx closes the connection then
				_, _ = d.SQL().ExecContext(r.Context(), "INSERT INTO t (id) VALUES ($1)", panics{})
			case r.URL.Path != "/ok":
				panic("on purpose")
			}
		}, func(ctx context.Context, t *testing.T, url string) {
			ok(t, insert(ctx, d, 1))
			for _, path := range []string{"/panic", "/argument", "/panic"} {
				if resp, err := http.Post(url+path, "", nil); err == nil {
					t.Errorf("%s: the answer is %s", path, resp.Status)
				}
				want(ctx, t, d, 1)
			}
			get(t.Context(), t, url+"/ok", http.StatusOK)
			want(ctx, t, d, 2)
		})
	})
}

func TestAClientThatGoesAwayBetweenStatements(t *testing.T) {
	onEach(t, func(t *testing.T, d opened) {
		gone, ended := make(chan struct{}), make(chan error)
		served(t, d, func(_ http.ResponseWriter, r *http.Request) {
			ok(t, insert(r.Context(), d, 1))
			close(gone)
			<-r.Context().Done()
			ended <- insert(r.Context(), d, 2)
			panic(http.ErrAbortHandler)
		}, func(ctx context.Context, t *testing.T, url string) {
			client, leave := context.WithCancel(ctx)
			go func() { <-gone; leave() }()
			request, err := http.NewRequestWithContext(client, http.MethodPost, url, nil)
			ok(t, err)
			_, err = http.DefaultClient.Do(request)
			is(t, err, context.Canceled)
			is(t, <-ended, context.Canceled)
			want(ctx, t, d, 0)
		})
	})
}

// pgx and MariaDB's driver close the connection of a statement that is cancelled
// while it runs; in a test that is everybody's.
func TestAStatementThatIsCancelled(t *testing.T) {
	cancelled := func(ctx context.Context, d opened) error {
		return dbscope.Run(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			return sleep(ctx, d, 1)
		})
	}
	t.Run("takes the connection along", func(t *testing.T) {
		on(t, isPostgreSQL|isMariaDB, func(t *testing.T, d opened) {
			failsWith(t, d, func(ctx context.Context) {
				ok(t, insert(ctx, d, 1))
				is(t, cancelled(ctx, d), context.DeadlineExceeded)
				is(t, dbscope.Run(ctx, store(d, 2, nil)), dbscope.ErrRolledBack)
			}, "statements were refused, since the test's transaction was lost")
			ok(t, dbscope.Run(scopetest.Rollback(t, d), store(d, 1, nil)))
		})
	})
	t.Run("leaves the connection where pgx is told to ask the server", func(t *testing.T) {
		asking := func() *pgxpool.Config {
			config, err := pgxpool.ParseConfig(postgresSchema(t))
			ok(t, err)
			config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
				return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 5 * time.Second}
			}
			pgxscope.Configure(config)
			return config
		}
		for _, db := range []database{
			overSQL{sqlscope.New(func(context.Context, string) (*sql.DB, error) {
				return stdlib.OpenDB(*asking().ConnConfig), nil
			})},
			overPgx{pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
				return pgxpool.NewWithConfig(ctx, asking())
			})},
		} {
			d := opened{db, isPostgreSQL}
			d.prepare(t)
			inTest(t, d, func(ctx context.Context, t *testing.T) {
				ok(t, insert(ctx, d, 1))
				is(t, cancelled(ctx, d), context.DeadlineExceeded)
				ok(t, dbscope.Run(ctx, store(d, 2, nil)))
				want(ctx, t, d, 2)
				g := dbscope.NewGroup(ctx) // one fails, and so cancels the other's
				g.Go(func(ctx context.Context) error { return sleep(ctx, d, 1) })
				g.Go(func(context.Context) error { time.Sleep(50 * time.Millisecond); return errStop })
				is(t, g.Wait(), errStop)
				want(ctx, t, d, 2)
			})
		}
	})
}

// served runs a test with a server that ends before the outer one.
func served(t *testing.T, d opened, handler http.HandlerFunc, test func(ctx context.Context, t *testing.T, url string)) {
	t.Run("in a test", func(t *testing.T) {
		s := scopetest.Serve(t, httpscope.Middleware()(handler), d)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		test(scopetest.Fixture(s.Context), t, s.URL)
	})
}

func get(ctx context.Context, t *testing.T, url string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	ok(t, err)
	resp, err := http.DefaultClient.Do(request)
	ok(t, err)
	body, err := io.ReadAll(resp.Body)
	ok(t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != status {
		t.Errorf("%s: the answer is %s %s", url, resp.Status, body)
	}
}
