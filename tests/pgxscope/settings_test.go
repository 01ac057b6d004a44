package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/settings"
	"github.com/dbscope/dbscope/tests/wire"
)

var as, errNobody, fromContext = settings.As, settings.ErrNobody, settings.FromContext

// tenantsSchema has a table whose rows say in whose name they were written.
const tenantsSchema = schema + `; ALTER TABLE t ADD COLUMN tenant TEXT DEFAULT current_setting('app.tenant', true)`

func createTenants(t *testing.T) (dsn string) {
	dsn = pgtest.Shared(t).CreateDatabase(t)
	pgtest.Shared(t).Query(t, dsn, tenantsSchema)
	return dsn
}

// tenants counts the rows that were written in each name.
func tenants(t *testing.T, dsn string) string {
	t.Helper()
	return strings.TrimSpace(pgtest.Shared(t).Query(t, dsn, "SELECT coalesce(tenant, 'nobody'), count(*) FROM t GROUP BY 1 ORDER BY 1"))
}

// withKinds are all of statements.
var withKinds = []string{
	"Exec", "Exec without arguments", "Exec with an option", "Exec with named arguments", "Query", "QueryRow",
	"SendBatch", "SQL", "SQL, joining", "CopyFrom", "Prepare", "nested Begin", "Conn",
}

func TestSettingsCostNoRoundTripBeforeAnyKindOfStatement(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			dsn := createTenants(t)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
			plain := openDSN(t, proxy.DSN(dsn), dsn, mode)
			set := openDSN(t, proxy.DSN(dsn), dsn, mode, fromContext)
			ctx := as(t.Context(), "app.tenant", "a", "statement_timeout", "1h")
			id := 0
			trips := func(d *opened, kind string) int {
				for range 3 { // connects, and fills the statement cache
					id++
					proxy.Reset()
					ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return statements[kind](ctx, d.DB, "t", id) }))
				}
				return proxy.RoundTrips()
			}
			for _, kind := range withKinds {
				without, with := trips(plain, kind), trips(set, kind)
				if with != without {
					t.Errorf("%s takes %d round trips with settings and %d without:\n%v", kind, with, without, proxy.Messages())
				}
			}
			n := 3 * len(withKinds)
			if got, want := tenants(t, dsn), fmt.Sprintf("a|%d\nnobody|%d", n, n); got != want {
				t.Errorf("stored are %q, want %q", got, want)
			}
			proxy.Reset()
			for _, end := range []error{nil, errStop} {
				is(t, dbscope.Run(ctx, func(ctx context.Context) error {
					tx, err := set.Session(ctx)
					ok(t, err)
					nested, err := tx.Begin(ctx)
					ok(t, err)
					ok(t, nested.Commit(ctx))
					return end
				}), end)
			}
			if sent := proxy.Messages(); len(sent) > 0 {
				t.Errorf("units without a statement sent %v", sent)
			}
		})
	}
}

func TestSettingsOfALargeObjectsUnitTakeTheRoundTripOfItsBegin(t *testing.T) {
	dsn := createTenants(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	for i, d := range []*opened{
		openDSN(t, proxy.DSN(dsn), dsn, pgx.QueryExecModeCacheStatement),
		openDSN(t, proxy.DSN(dsn), dsn, pgx.QueryExecModeCacheStatement, fromContext),
	} {
		unit := func() {
			ok(t, dbscope.Run(as(t.Context(), "app.tenant", "a"), func(ctx context.Context) error {
				tx, err := d.Session(ctx)
				ok(t, err)
				objects := tx.LargeObjects()
				id, err := objects.Create(ctx, 0)
				ok(t, err)
				o, err := objects.Open(ctx, id, pgx.LargeObjectModeWrite)
				ok(t, err)
				_, err = io.WriteString(o, "x")
				return errors.Join(err, insert(ctx, d, 100*i+int(id%100)))
			}))
			ok(t, dbscope.Run(as(t.Context()), func(ctx context.Context) error {
				_, err := d.Exec(ctx, "DELETE FROM t")
				return err
			}))
		}
		unit()
		proxy.Reset()
		unit()
		if got := proxy.RoundTrips(); got != 8 {
			t.Errorf("%d round trips, want 8:\n%v", got, proxy.Messages())
		}
	}
}

// Behind a proxy that keeps no order, and on a pool that was not configured, settings
// have a round trip of their own, as BEGIN has.
func TestSettingsWorkWhereNothingRides(t *testing.T) {
	for name, open := range map[string]func(through, dsn string) *opened{
		"SeparateBegin": func(through, dsn string) *opened {
			return openDSN(t, through, dsn, pgx.QueryExecModeCacheStatement, fromContext, pgxscope.SeparateBegin())
		},
		"a pool of its own": func(through, dsn string) *opened {
			o := &opened{dsn: dsn, DB: pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
				return pgxpool.New(context.WithoutCancel(ctx), through)
			}, fromContext)}
			t.Cleanup(func() { ok(t, o.Close()) })
			return o
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := createTenants(t)
			proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
			d := open(proxy.DSN(dsn), dsn)
			ctx := as(t.Context(), "app.tenant", "a", "lock_timeout", "1h")
			id := 0
			for _, kind := range withKinds {
				id++
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return statements[kind](ctx, d.DB, "t", id) }))
			}
			proxy.Reset()
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, d, 1000) }))
			if got := proxy.RoundTrips(); got != 4 { // BEGIN, the settings, the statement, COMMIT
				t.Errorf("%d round trips, want 4:\n%v", got, proxy.Messages())
			}
			proxy.Reset()
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error { _, err := d.Session(ctx); return err }))
			if sent := proxy.Messages(); len(sent) > 0 {
				t.Errorf("a unit without a statement sent %v", sent)
			}
			if got, want := tenants(t, dsn), fmt.Sprintf("a|%d", len(withKinds)+1); got != want {
				t.Errorf("stored are %q, want %q", got, want)
			}
			refusesSettings(t, d)
		})
	}
}

// What the server refuses fails the statement with the server's word for it, runs
// nothing, and leaves a connection that works.
func TestAStatementWhoseSettingsAreRefusedDoesNotRun(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			dsn := createTenants(t)
			d := openDSN(t, dsn, dsn, mode, fromContext)
			refusesSettings(t, d)
			if n := d.dialed.Load(); n != 1 {
				t.Errorf("%d connections were made, want one", n)
			}
		})
	}
	bouncer := pgbouncer.Start(t, pgtest.Shared(t))
	for _, mode := range modes[1:] {
		t.Run("PgBouncer/"+mode.String(), func(t *testing.T) {
			dsn := createTenants(t)
			refusesSettings(t, openDSN(t, bouncer.DSN(dsn), dsn, mode, fromContext))
		})
	}
}

func refusesSettings(t *testing.T, d *opened) {
	before := tenants(t, d.dsn)
	id := 5000
	for code, settings := range map[string][]string{
		"42704": {"nothing_of_this_name", "x"},
		"22023": {"app.tenant", "b", "statement_timeout", "soon"},
		"22021": {"app.tenant", "nul\x00"},
	} {
		for _, kind := range withKinds {
			if kind == "Conn" { // returns nil
				continue
			}
			err := dbscope.Run(as(t.Context(), settings...), func(ctx context.Context) error {
				id++
				var refused *pgconn.PgError
				if err := statements[kind](ctx, d.DB, "t", id); !errors.As(err, &refused) || refused.Code != code {
					t.Errorf("%s: the error is %v, want %s", kind, err, code)
				}
				if err := insert(ctx, d, id); err == nil {
					t.Errorf("%s: the next statement ran", kind)
				}
				return nil
			})
			is(t, err, dbscope.ErrRolledBack)
			if n := d.inUse(t); n != 0 {
				t.Errorf("%s: %d connections are in use", kind, n)
			}
		}
		is(t, dbscope.Run(as(t.Context(), settings...), func(ctx context.Context) error {
			tx, err := d.Session(ctx)
			if tx.Conn() != nil {
				t.Error("Conn returned a connection without settings")
			}
			return err
		}), dbscope.ErrRolledBack)
	}
	if after := tenants(t, d.dsn); after != before {
		t.Errorf("stored are %q, before %q", after, before)
	}
	ok(t, dbscope.Run(as(t.Context(), "app.tenant", "z"), func(ctx context.Context) error {
		var tenant, timeout string
		ok(t, d.QueryRow(ctx, "SELECT current_setting('app.tenant'), current_setting('statement_timeout')").Scan(&tenant, &timeout))
		if tenant != "z" || timeout != "0" {
			t.Errorf("afterwards the settings are %q and %q", tenant, timeout)
		}
		return nil
	}))
}

// A replica is asked in the transaction, which begins anew then: with its settings.
func TestSettingsAreThoseOfTheTransactionThatFollowsTheQuestionToAReplica(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			dsn := createTenants(t)
			ask := func(ctx context.Context, conn driver.Conn, r driver.Route) (bool, error) {
				return cluster.New(nil).Ready(ctx, conn, r)
			}
			d := openDSN(t, dsn, dsn, mode, dbscope.Router(asking{fixed{cluster.New(nil)}, ask}), fromContext)
			for _, name := range []string{"a", "b"} {
				ok(t, dbscope.Run(as(t.Context(), "app.tenant", name), func(ctx context.Context) error {
					var got string
					ok(t, d.QueryRow(ctx, "SELECT current_setting('app.tenant')").Scan(&got))
					if got != name {
						t.Errorf("the tenant is %q, want %q", got, name)
					}
					return nil
				}, dbscope.ReadOnly()))
			}
		})
	}
}

// BeginTx outside a scope makes one; a statement on its own is refused, also where the
// DB is one of AllowUnscoped.
func TestOutsideAScopeOnlyTransactionsHaveSettings(t *testing.T) {
	dsn := createTenants(t)
	d := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement, fromContext, dbscope.AllowUnscoped())
	ctx := as(t.Context(), "app.tenant", "a")
	for kind, statement := range statements {
		if kind == "SQL, joining" || kind == "nested Begin" || kind == "Prepare" || kind == "Conn" {
			continue // these begin transactions, or need a session
		}
		is(t, statement(ctx, d.DB, "t", 1), dbscope.ErrNoScope)
	}
	prepared, err := d.SQL().PrepareContext(ctx, "INSERT INTO t (id) VALUES (1)")
	if err == nil {
		_, err = prepared.ExecContext(ctx)
	}
	is(t, err, dbscope.ErrNoScope)
	id := 0
	for _, opts := range [][]sqlscope.SQLOption{nil, {sqlscope.JoinBegin()}} {
		tx, err := d.SQL(opts...).BeginTx(ctx, nil)
		ok(t, err)
		id++
		_, err = tx.Exec("INSERT INTO t (id) VALUES ($1)", id) // whose context is none
		ok(t, errors.Join(err, tx.Commit()))
		_, err = d.SQL(opts...).BeginTx(t.Context(), nil)
		is(t, err, errNobody)
	}
	if got := tenants(t, dsn); got != "a|2" {
		t.Errorf("stored are %q", got)
	}
	if n := d.inUse(t); n != 0 {
		t.Errorf("%d connections are in use", n)
	}
	pgtest.Shared(t).Query(t, dsn, dbscope.LedgerTable)
	ok(t, d.PurgeLedger(t.Context(), 0)) // which is dbscope's own, and no tenant's
}

func TestAUnitThatIsRunAgainAsksForItsSettingsAnew(t *testing.T) {
	dsn := createTenants(t)
	asked := 0
	d := openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement, dbscope.Settings(func(context.Context) ([]dbscope.Setting, error) {
		asked++
		return []dbscope.Setting{{Name: "app.tenant", Value: itoa(asked)}}, nil
	}))
	attempt := 0
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		attempt++
		if err := insert(ctx, d, attempt); err != nil || attempt == 3 {
			return err
		}
		_, err := d.Exec(ctx, "DO $$BEGIN RAISE SQLSTATE '40001'; END$$")
		return err
	}, dbscope.Retry(dbscope.RetryPolicy{})))
	if got := tenants(t, dsn); got != "3|1" {
		t.Errorf("stored are %q", got)
	}
}

func TestTheFunctionOfSettingsCannotUseItsOwnDB(t *testing.T) {
	dsn := createTenants(t)
	var d *opened
	d = openDSN(t, dsn, dsn, pgx.QueryExecModeCacheStatement, dbscope.Settings(func(ctx context.Context) ([]dbscope.Setting, error) {
		return nil, d.Detached(ctx, func(ctx context.Context, _ pgx.Tx) error { return insert(ctx, d, 1) })
	}))
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) })
	if err == nil || !strings.Contains(err.Error(), "its own DB") {
		t.Errorf("the error is %v", err)
	}
	if got := tenants(t, dsn); got != "" {
		t.Errorf("stored are %q", got)
	}
}
