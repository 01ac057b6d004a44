package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok, eventually = check.OK, check.Eventually

func TestMain(m *testing.M) { goleak.VerifyTestMain(mariatest.Main(pgtest.Main(m))) }

// database is what the tests use of a DB.
type database interface {
	dbscope.Database
	Host() string
	Close() error
	exec(ctx context.Context, statement string, args ...any) error
	text(ctx context.Context, query string, args ...any) (string, error)
}

type overSQL struct{ *sqlscope.DB }

func (d overSQL) exec(ctx context.Context, statement string, args ...any) error {
	_, err := d.ExecContext(ctx, statement, args...)
	return err
}

func (d overSQL) text(ctx context.Context, query string, args ...any) (text string, err error) {
	err = d.QueryRowContext(ctx, query, args...).Scan(&text)
	return text, err
}

type overPgx struct{ *pgxscope.DB }

func (d overPgx) exec(ctx context.Context, statement string, args ...any) error {
	_, err := d.Exec(ctx, statement, args...)
	return err
}

func (d overPgx) text(ctx context.Context, query string, args ...any) (text string, err error) {
	err = d.QueryRow(ctx, query, args...).Scan(&text)
	return text, err
}

// adapters open a database on a cluster's hosts.
var adapters = map[string]func(dsn string, opts ...dbscope.DBOption) database{
	"sqlscope": func(dsn string, opts ...dbscope.DBOption) database {
		return overSQL{sqlscope.Open("pgx", dsn, opts...)}
	},
	"pgxscope": func(dsn string, opts ...dbscope.DBOption) database { return overPgx{pgxscope.Open(dsn, opts...)} },
}

const dsn = "postgres://postgres@{host}/postgres?sslmode=disable"

func at(s *pgtest.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }

func hostsOf(servers ...*pgtest.Server) (hosts []string) {
	for _, s := range servers {
		hosts = append(hosts, at(s))
	}
	return hosts
}

// where tells which host a unit of work runs on.
func where(ctx context.Context, db database, opts ...dbscope.Option) (host string, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		port, err := db.text(ctx, "SELECT current_setting('port')")
		host = "127.0.0.1:" + port
		return err
	}, opts...)
	return host, err
}

func write(ctx context.Context, db database, statement string, args ...any) error {
	return dbscope.Run(ctx, func(ctx context.Context) error { return db.exec(ctx, statement, args...) })
}

// arrived waits until a standby has a table.
func arrived(t testing.TB, standby *pgtest.Server, table string) {
	t.Helper()
	eventually(t, "the standby has the table "+table, func() bool {
		return standby.Query(t, standby.DSN("postgres"), "SELECT to_regclass('"+table+"')") == table
	})
}

// watched waits until the primary was found. The hosts are watched from the first
// session on, which may not wait as long as a busy machine takes to ask them.
func watched(t testing.TB, db database) {
	t.Helper()
	eventually(t, "the primary is found", func() bool {
		err := write(t.Context(), db, "SELECT 1")
		if err != nil && !errors.Is(err, cluster.ErrNoPrimary) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// fresh waits until the cluster has so many replicas that get sessions.
func fresh(t testing.TB, nodes *cluster.Cluster, n int, db database) {
	t.Helper()
	watched(t, db)
	eventually(t, fmt.Sprintf("%d fresh replicas", n), func() bool {
		have := 0
		for _, node := range nodes.Nodes() {
			if node.Fresh {
				have++
			}
		}
		return have == n
	})
}
