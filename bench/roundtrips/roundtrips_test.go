// Package roundtrips counts, on the wire, how often a unit of work waits for
// the network, and times it, with dbscope and by hand. It prints one table:
//
//	go test -bench . ./bench/roundtrips
package roundtrips

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/tests/wire"
)

var must = check.OK

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

const query = "SELECT n FROM t WHERE id = $1"

// subject is a way to run a unit of n statements.
type subject struct {
	name string
	unit func(ctx context.Context, n int) error
}

// subjects opens all ways through a connection string. What a cluster asks its
// hosts goes directly.
func subjects(b *testing.B, dsn, direct string) []subject {
	ctx := b.Context()
	var all []subject
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		config, err := pgxpool.ParseConfig(dsn)
		must(b, err)
		config.ConnConfig.DefaultQueryExecMode = mode
		pgxscope.Configure(config)
		pool, err := pgxpool.NewWithConfig(ctx, config)
		must(b, err)
		db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil })
		b.Cleanup(func() { must(b, db.Close()) })
		all = append(all,
			subject{"pgx by hand, " + mode.String(), func(ctx context.Context, n int) error {
				return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return scan(ctx, tx, n) })
			}},
			subject{"pgxscope, " + mode.String(), func(ctx context.Context, n int) error {
				return dbscope.Run(ctx, func(ctx context.Context) error { return scan(ctx, db, n) })
			}},
			subject{"pgxscope, read-only, " + mode.String(), func(ctx context.Context, n int) error {
				return dbscope.Run(ctx, func(ctx context.Context) error { return scan(ctx, db, n) }, dbscope.ReadOnly())
			}},
			subject{"pgxscope, rolled back, " + mode.String(), func(ctx context.Context, n int) error {
				return undone(dbscope.Run(ctx, func(ctx context.Context) error { return cmp.Or(scan(ctx, db, n), errUndo) }))
			}},
			subject{"pgxscope, ExecCommit, " + mode.String(), func(ctx context.Context, n int) error {
				return dbscope.Run(ctx, func(ctx context.Context) error {
					if err := scan(ctx, db, n-1); err != nil {
						return err
					}
					_, err := db.ExecCommit(ctx, "SELECT n FROM t WHERE id = $1", 1) // comparable with the others
					return err
				})
			}})
		if mode == pgx.QueryExecModeCacheStatement {
			all = append(append(all, nested(pool, db)...), onCluster(b, dsn, direct), withSettings(pool),
				withKey("pgxscope, a request with a key", db, func(ctx context.Context, n int) error { return scan(ctx, db, n) }))
		}
	}
	return append(all, overSQL(b, dsn)...)
}

// nested runs the statements in a savepoint.
func nested(pool *pgxpool.Pool, db *pgxscope.DB) []subject {
	within := func(ctx context.Context, tx pgx.Tx, n int) error {
		return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return scan(ctx, tx, n) })
	}
	return []subject{
		{"pgx by hand, in a savepoint", func(ctx context.Context, n int) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return within(ctx, tx, n) })
		}},
		{"pgxscope, in a savepoint", func(ctx context.Context, n int) error {
			return dbscope.Run(ctx, func(ctx context.Context) error {
				tx, err := db.Session(ctx)
				if err != nil {
					return err
				}
				return within(ctx, tx, n)
			})
		}},
	}
}

// onCluster runs units that may write where somebody wants to read their own
// writes: COMMIT brings a position with it.
func onCluster(b *testing.B, dsn, direct string) subject {
	next := direct // the cluster opens its pool first
	db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(next)
		if err != nil {
			return nil, err
		}
		next = dsn
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Router(cluster.New(cluster.List("server"))))
	b.Cleanup(func() { must(b, db.Close()) })
	return subject{"pgxscope on a cluster, with tokens", func(ctx context.Context, n int) error {
		return dbscope.Run(dbscope.ReadYourWrites(ctx, ""), func(ctx context.Context) error { return scan(ctx, db, n) })
	}}
}

// withSettings runs units whose transactions begin with two settings.
func withSettings(pool *pgxpool.Pool) subject {
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil },
		dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
			return []dbscope.Setting{{Name: "app.tenant", Value: "ada"}, {Name: "statement_timeout", Value: "5s"}}, nil
		}))
	return subject{"pgxscope, two settings", func(ctx context.Context, n int) error {
		return dbscope.Run(ctx, func(ctx context.Context) error { return scan(ctx, db, n) })
	}}
}

// withKey runs units of requests that are done once, each with a key of its own.
func withKey(name string, db idempotent.Database[sqlscope.SQLOption], unit func(ctx context.Context, n int) error) subject {
	handler := httpscope.Middleware()(idempotent.Middleware(db, idempotent.Anybody)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err = cmp.Or(err, unit(r.Context(), n)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})))
	return subject{name, func(ctx context.Context, n int) error {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/?n="+strconv.Itoa(n), http.NoBody)
		r.Header.Set("Idempotency-Key", rand.Text())
		answer := httptest.NewRecorder()
		if handler.ServeHTTP(answer, r); answer.Code != http.StatusOK {
			return fmt.Errorf("%d %s", answer.Code, answer.Body)
		}
		return nil
	}}
}

func overSQL(b *testing.B, dsn string) []subject {
	config, err := pgx.ParseConfig(dsn)
	must(b, err)
	pool := stdlib.OpenDB(*config)
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return pool, nil })
	b.Cleanup(func() { must(b, db.Close()) })
	orm, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{})
	must(b, err)
	return []subject{
		withKey("sqlscope, a request with a key", db, func(ctx context.Context, n int) error { return scanSQL(ctx, db, n) }),
		{"database/sql by hand", func(ctx context.Context, n int) error {
			tx, err := pool.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if err := scanSQL(ctx, tx, n); err != nil {
				return err
			}
			return tx.Commit()
		}},
		{"sqlscope", func(ctx context.Context, n int) error {
			return dbscope.Run(ctx, func(ctx context.Context) error { return scanSQL(ctx, db, n) })
		}},
		{"GORM's Transaction", func(ctx context.Context, n int) error {
			return orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				for range n {
					var got int
					if err := tx.Raw(query, 1).Scan(&got).Error; err != nil {
						return err
					}
				}
				return nil
			})
		}},
	}
}

var errUndo = errors.New("to be undone")

func undone(err error) error {
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

func scan(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, n int,
) error {
	for range n {
		var got int
		if err := q.QueryRow(ctx, query, 1).Scan(&got); err != nil {
			return err
		}
	}
	return nil
}

func scanSQL(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, n int,
) error {
	for range n {
		var got int
		if err := q.QueryRowContext(ctx, query, 1).Scan(&got); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkRoundTrips prints round trips for units of 1, 2 and 5 statements,
// and the median time of a unit of one: with 1 ms of latency, and on loopback,
// where the subjects are connected to the server directly.
func BenchmarkRoundTrips(b *testing.B) {
	server := pgtest.Shared(b)
	dsn := server.CreateDatabase(b)
	server.Query(b, dsn, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 1)")
	server.Query(b, dsn, idempotent.PostgreSQLTable)
	proxy := wire.Start(b, fmt.Sprintf("127.0.0.1:%d", server.Port()))
	through, direct := subjects(b, proxy.DSN(dsn), dsn), subjects(b, dsn, dsn)
	for b.Loop() {
		// No answer comes so early that one that nobody waits for is counted.
		proxy.Delay(2 * time.Millisecond)
		const units = 10 // of which one may find an end under way, or leave one
		counts := make([][]any, len(through))
		for i, s := range through {
			for _, n := range []int{1, 2, 5} {
				must(b, s.unit(b.Context(), n)) // connects, and fills the statement cache
				proxy.Reset()
				for range units {
					must(b, s.unit(b.Context(), n))
				}
				counts[i] = append(counts[i], proxy.RoundTrips()/units)
			}
		}
		proxy.Delay(time.Millisecond)
		far := medians(b, through, 50)
		proxy.Delay(0)
		near := medians(b, direct, 500)
		var out strings.Builder
		table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
		_, _ = fmt.Fprintln(table, "a unit of\t1\t2\t5 statements\t1 ms away\tloopback\tof pgx by hand\t")
		for i, s := range through {
			_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%v\t%v\t%.2f, %.2f\t\n", append(append([]any{s.name}, counts[i]...),
				far[i].Round(10*time.Microsecond), near[i].Round(time.Microsecond),
				float64(far[i])/float64(far[0]), float64(near[i])/float64(near[0]))...)
		}
		must(b, table.Flush())
		fmt.Print(out.String())
	}
	b.ReportMetric(0, "ns/op")
}

// medians times the subjects in turn.
func medians(b *testing.B, all []subject, rounds int) []time.Duration {
	times := make([][]time.Duration, len(all))
	for range rounds {
		for i, s := range all {
			start := time.Now()
			must(b, s.unit(b.Context(), 1))
			times[i] = append(times[i], time.Since(start))
		}
	}
	out := make([]time.Duration, len(all))
	for i, t := range times {
		slices.Sort(t)
		out[i] = t[len(t)/2]
	}
	return out
}
