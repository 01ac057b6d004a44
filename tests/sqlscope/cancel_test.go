package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware"
)

// slow runs long enough to be cancelled on the way.
func (d *opened) slow() string {
	switch {
	case d.postgres:
		return "INSERT INTO t (id) SELECT 1000 FROM pg_sleep(60)"
	case d.ofMySQL:
		return "INSERT INTO t (id) SELECT 1000 FROM (SELECT sleep(60)) AS s"
	}
	return "INSERT INTO t (id) WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT i FROM n"
}

// running waits until the slow statement is.
func (d *opened) running(t *testing.T) {
	query := "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()"
	switch {
	case d.ofMySQL:
		query = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%sleep(60)%' AND id <> connection_id() AND db = database()"
	case !d.postgres:
		// The engine runs in this process and tells nobody; cancelled before
		// or during the statement, the outcome is the same.
		time.Sleep(20 * time.Millisecond)
		return
	}
	drivertest.Eventually(t, "the statement runs", func() bool {
		var n int
		ok(t, d.other.QueryRow(query).Scan(&n))
		return n == 1
	})
}

// stop ends the slow statement on a server that does not notice at once that
// its client has gone: until then it keeps its locks.
func (d *opened) stop(t *testing.T) {
	if !d.ofMySQL {
		return
	}
	rows, err := d.other.Query("SELECT id FROM information_schema.processlist WHERE info LIKE '%sleep(60)%' AND id <> connection_id() AND db = database()")
	ok(t, err)
	for _, id := range scan(t, rows) {
		_ = d.kill(id) // fails where it has noticed
	}
}

// Rules 5, 7 and 9: also when the unit ignores the error.
func TestAStatementCancelledOnItsWayFailsTheCommitWithTheCause(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, way := range []string{"ExecContext", "SQL().ExecContext", "the handle"} {
			gone := errors.New("the client went away")
			ctx, cancel := context.WithCancelCause(t.Context())
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				go func() {
					d.running(t)
					cancel(gone)
				}()
				err := ways[way](ctx, d, d.slow())
				is(t, err, gone)
				if errors.Is(err, sql.ErrTxDone) {
					t.Errorf("the error is %v", err)
				}
				return nil
			})
			is(t, err, dbscope.ErrRolledBack)
			is(t, err, gone)
			want(t, "stored", d.stored(t))
			d.stop(t)
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
	})
}

func TestACancellationWhileRowsAreOpenReachesTheReaderAndLosesNothingInSilence(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, q := range []querier{d, d.SQL()} {
			_, err := d.other.Exec("DELETE FROM t")
			ok(t, err)
			err = dbscope.Run(t.Context(), func(ctx context.Context) error {
				for i := range 100 {
					ok(t, insert(ctx, d, i))
				}
				inner, cancel := context.WithCancel(ctx)
				rows, err := q.QueryContext(inner, "SELECT a.id FROM t a, t b, t c")
				ok(t, err)
				if !rows.Next() {
					t.Error("no row")
				}
				cancel()
				for rows.Next() {
				}
				is(t, rows.Err(), context.Canceled)
				ok(t, ignoreLost(rows.Close()))
				drivertest.Eventually(t, "the rows are closed", func() bool {
					scope, _ := middleware.ScopeOf(ctx)
					return !scope.Busy()
				})
				return nil
			})
			switch stored := len(d.stored(t)); {
			case err == nil && stored == 100: // SQLite, and a driver that had all rows
			case errors.Is(err, dbscope.ErrRolledBack) && stored == 0:
			default:
				t.Errorf("stored %d rows, the unit says %v", stored, err)
			}
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1000) }))
	})
}

func ignoreLost(err error) error {
	if err != nil && (errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "lost")) {
		return nil
	}
	return err
}

// SQLite undoes the whole transaction on its own, and would run what follows
// on its own too.
func TestATransactionThatSQLiteUndidTakesNothingMore(t *testing.T) {
	d := open(t, databases["SQLite"])
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 1))
		_, err := d.ExecContext(ctx, "INSERT OR ROLLBACK INTO t (id) VALUES (1)")
		if err == nil {
			t.Error("a duplicate was stored")
		}
		is(t, insert(ctx, d, 2), dbscope.ErrRolledBack)
		return nil
	})
	is(t, err, dbscope.ErrRolledBack)
	want(t, "stored", d.stored(t))
	if n := d.dialed.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestRowsLeftOpenOnSQLAreClosedByTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var left []*sql.Rows
		for i := range 3 {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, i))
				rows, err := d.SQL().QueryContext(ctx, "SELECT id FROM t")
				left = append(left, rows)
				return err
			}))
		}
		for _, rows := range left {
			if rows.Next() || rows.Err() == nil {
				t.Error("rows were read after their transaction")
			}
			ok(t, rows.Close())
		}
		want(t, "stored", d.stored(t), 0, 1, 2)
		if d.inUse(t) != 0 {
			t.Error("a connection was kept")
		}
	})
}

func TestOpenExplainsWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		db interface {
			SQL(opts ...sqlscope.SQLOption) *sql.DB
			Close() error
		}
		want string
	}{
		{sqlscope.Open("nosuch", "x"), `unknown driver "nosuch"`},
		{sqlscope.Open("pgx", "postgres://app@{host}/shop"), "shop: opening the pool: the data source name holds {host}, but no host is set: pass dbscope.Host to Open"},
		{sqlscope.New(func(context.Context, string) (*sql.DB, error) { return nil, nil }), "no *sql.DB"},
		{pgxscope.Open("postgres://app@db/shop?pool_max_conns=none"), "cannot parse"},
		{pgxscope.Open("postgres://app@{host}/shop"), "shop: opening the pool: the connection string holds {host}, but no host is set: pass dbscope.Host to Open"},
		{pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return nil, nil }), "no *pgxpool.Pool"},
	} {
		err := c.db.SQL().PingContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the error is %v, want %q", err, c.want)
		}
		ok(t, c.db.Close())
	}
}

func TestADatabaseIsNamedAfterItsDataSource(t *testing.T) {
	for _, c := range []struct{ driver, dsn, name string }{
		{"pgx", "postgres://app:secret@db:5432/shop?sslmode=disable", "shop"},
		{"pgx", "host=db dbname=shop user=app", "shop"},
		{"pgx", "host={host} dbname='shop' user=app", "shop"},
		{"mysql", "app:secret@tcp(db:3306)/shop?parseTime=true", "shop"},
		{"sqlite", "file:orders.db?mode=rwc", "orders.db"},
		{"sqlite", "/var/lib/orders.db", "orders.db"},
		{"sqlite", ":memory:", ":memory:"},
		{"sqlite", "{host}/orders.db", "orders.db"},
		{"sqlite", "file:{host}?mode=rwc", "sqlite"},
		{"nosuch", "/var/lib/orders.db", "nosuch"}, // of a driver that may mean something else by it
		{"nosuch", "app:secret@db", "nosuch"},
		{"nosuch", "", "nosuch"},
	} {
		var opts []dbscope.DBOption
		if strings.Contains(c.dsn, "{host}") {
			opts = append(opts, dbscope.Host("here"))
		}
		db := sqlscope.Open(c.driver, c.dsn, opts...)
		_, err := db.ExecContext(t.Context(), "outside of a scope")
		if err == nil || !strings.HasPrefix(err.Error(), "dbscope: "+c.name+": ") {
			t.Errorf("%q: %v", c.dsn, err)
		}
		ok(t, db.Close())
	}
}
