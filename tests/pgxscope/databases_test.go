package pgxscope_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok, is, want = check.OK, check.Is, check.Equal[int]

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// modes are all that pgx has.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"

// opened is a DB over a table t(id), on a pool of its own.
type opened struct {
	*pgxscope.DB
	dsn    string
	dialed atomic.Int64
}

func open(t *testing.T, mode pgx.QueryExecMode, opts ...dbscope.DBOption) *opened {
	dsn := createDatabase(t)
	return openDSN(t, dsn, dsn, mode, opts...)
}

func createDatabase(t *testing.T) (dsn string) {
	dsn = pgtest.Shared(t).CreateDatabase(t)
	pgtest.Shared(t).Query(t, dsn, schema)
	return dsn
}

// openDSN opens one database under two names: that of a proxy, say, and its own.
func openDSN(t *testing.T, through, dsn string, mode pgx.QueryExecMode, opts ...dbscope.DBOption) *opened {
	return openPool(t, through, dsn, func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode }, opts...)
}

func openPool(t *testing.T, through, dsn string, configure func(*pgxpool.Config), opts ...dbscope.DBOption) *opened {
	o := &opened{dsn: dsn}
	o.DB = pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(through)
		if err != nil {
			return nil, err
		}
		configure(config)
		config.AfterConnect = func(context.Context, *pgx.Conn) error { o.dialed.Add(1); return nil }
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, append([]dbscope.DBOption{dbscope.Name("test")}, opts...)...)
	t.Cleanup(func() { ok(t, o.Close()) })
	return o
}

func (o *opened) inUse(t *testing.T) int {
	pool, err := o.Pool(t.Context())
	ok(t, err)
	return int(pool.Stat().AcquiredConns())
}

// stored returns the ids that another client sees.
func (o *opened) stored(t *testing.T) []int {
	t.Helper()
	var ids []int
	for line := range strings.FieldsSeq(pgtest.Shared(t).Query(t, o.dsn, "SELECT id FROM t ORDER BY id")) {
		id, err := strconv.Atoi(line)
		ok(t, err)
		ids = append(ids, id)
	}
	return ids
}

func insert(ctx context.Context, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, id int,
) error {
	_, err := db.Exec(ctx, "INSERT INTO t (id) VALUES ($1)", id)
	return err
}

func itoa(i int) string { return strconv.Itoa(i) }
