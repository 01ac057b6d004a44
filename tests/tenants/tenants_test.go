package tenants_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // hooks fail as well
	goleak.VerifyTestMain(pgtest.Main(m))
}

var (
	programs = flag.Int("programs", 0, "how many programs each test runs; the default is few, or with DBSCOPE_LONG=1 many")
	seedFlag = flag.String("seed", "", "SEED/NUMBER of one program to run again")
)

const (
	few      = 400
	many     = 20_000
	workers  = 4   // programs side by side
	batch    = 200 // programs between two looks at what is stored
	maxConns = workers * 6
)

// kinds are ways to open the database.
var kinds = map[string]func(t *testing.T, dsn string) subject{
	"pgxscope, exec":            byPgx(pgx.QueryExecModeExec),
	"pgxscope, simple_protocol": byPgx(pgx.QueryExecModeSimpleProtocol),
	"pgxscope, cache_describe":  byPgx(pgx.QueryExecModeCacheDescribe),
	"pgxscope, cache_statement": byPgx(pgx.QueryExecModeCacheStatement),
	"pgxscope, SeparateBegin":   byPgx(pgx.QueryExecModeExec, pgxscope.SeparateBegin()),
	"sqlscope, pgx": bySQL(func(dsn string) (*sql.DB, error) {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
		return stdlib.OpenDB(*config), nil
	}),
	"sqlscope, pq": bySQL(func(dsn string) (*sql.DB, error) {
		return sql.Open("postgres", dsn+"&binary_parameters=yes") // without which it needs statements that the pooler forgets
	}),
}

var options = []dbscope.DBOption{dbscope.Name("tenants"), settings, dbscope.AllowUnscoped()}

func byPgx(mode pgx.QueryExecMode, opts ...dbscope.DBOption) func(t *testing.T, dsn string) subject {
	return func(t *testing.T, dsn string) subject {
		db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
			config, err := pgxpool.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			config.ConnConfig.DefaultQueryExecMode = mode
			config.MaxConns = maxConns
			pgxscope.Configure(config)
			return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
		}, append(opts, options...)...)
		t.Cleanup(func() { ok(t, db.Close()) })
		return overPgx{db, newOverSQL(db)}
	}
}

func bySQL(open func(dsn string) (*sql.DB, error)) func(t *testing.T, dsn string) subject {
	return func(t *testing.T, dsn string) subject {
		db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
			pool, err := open(dsn)
			if err == nil {
				pool.SetMaxOpenConns(maxConns)
				pool.SetMaxIdleConns(maxConns)
			}
			return pool, err
		}, options...)
		t.Cleanup(func() { ok(t, db.Close()) })
		return overLib{db, newOverSQL(db)}
	}
}

func TestNoTenantSeesOrWritesRowsOfAnother(t *testing.T) {
	n := *programs
	switch {
	case n > 0:
	case os.Getenv("DBSCOPE_LONG") != "":
		n = many
	default:
		n = few
	}
	bouncer := pgbouncer.Start(t, pgtest.Shared(t), fmt.Sprintf("default_pool_size = %d", maxConns))
	for way, through := range map[string]func(string) string{"directly": func(dsn string) string { return dsn }, "PgBouncer": bouncer.DSN} {
		t.Run(way, func(t *testing.T) {
			for kind, open := range kinds {
				if way == "PgBouncer" && strings.Contains(kind, "cache_statement") {
					continue // which Debian's PgBouncer does not know
				}
				t.Run(kind, func(t *testing.T) {
					dsn := pgtest.Shared(t).CreateDatabase(t)
					pgtest.Shared(t).Query(t, dsn, schema)
					runPrograms(t, open(t, through(dsn)), dsn, n/len(kinds)+1)
				})
			}
		})
	}
}

// runPrograms runs so many programs, some side by side, and looks at what is stored.
func runPrograms(t *testing.T, db subject, dsn string, n int) {
	seed, first := uint64(time.Now().UnixNano()), 0
	if *seedFlag != "" {
		if _, err := fmt.Sscanf(*seedFlag, "%d/%d", &seed, &first); err != nil {
			t.Fatalf("-seed: %v", err)
		}
		n = 1
	}
	began, reads, stored := time.Now(), 0, 0
	for from := first; from < first+n && !t.Failed(); from += batch {
		var wg sync.WaitGroup
		numbers := make(chan int)
		var mu sync.Mutex
		for range workers {
			wg.Go(func() {
				for number := range numbers {
					p := &program{db: db, r: rand.New(rand.NewPCG(seed, uint64(number))), trace: &trace{}}
					p.run(t.Context())
					mu.Lock()
					reads += p.trace.reads
					mu.Unlock()
					if len(p.trace.wrong) > 0 {
						t.Errorf("program %d/%d: %s\n%v", seed, number, strings.Join(p.trace.wrong, "\n"), p.trace)
					}
				}
			})
		}
		for number := from; number < min(from+batch, first+n); number++ {
			numbers <- number
		}
		close(numbers)
		wg.Wait()
		rows := 0
		var wrong int
		answer := pgtest.Shared(t).Query(t, dsn, "SELECT count(*) || ' ' || count(*) FILTER (WHERE tenant IS DISTINCT FROM owner) FROM items")
		if _, err := fmt.Sscan(answer, &rows, &wrong); err != nil {
			t.Fatal(err)
		}
		if stored += rows; wrong > 0 {
			t.Errorf("seed %d, programs from %d: %d rows are stored in another name, or in none", seed, from, wrong)
		}
		pgtest.Shared(t).Query(t, dsn, "TRUNCATE items")
	}
	t.Logf("%d programs in %v: %d reads, %d rows", n, time.Since(began).Round(time.Millisecond), reads, stored)
	if n >= few/len(kinds) && (reads == 0 || stored == 0) {
		t.Error("they did nothing")
	}
}
