package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/tests/errtree"
)

// ends returns whether an error is one of the plain database, said by a unit: it
// has the text at its end, and the same errors inside.
func ends(err, plain error) bool {
	return err != nil && strings.HasSuffix(err.Error(), plain.Error()) && strings.Contains(errtree.Of(err), errtree.Of(plain))
}

func TestTheErrorsOfATransactionAreThoseOfThePlainDatabaseWithTheNameOfTheDB(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		linearizable := sql.LevelLinearizable
		begun, plain := d.other.BeginTx(t.Context(), &sql.TxOptions{Isolation: linearizable})
		if plain == nil { // SQLite's driver does not look
			ok(t, begun.Rollback())
		} else {
			unit := func(ctx context.Context) error { return insert(ctx, d, 1) }
			err := dbscope.Run(t.Context(), unit, dbscope.Isolation(linearizable))
			if !d.native && !ends(err, plain) {
				t.Errorf("BEGIN of a unit: %s\nbut alone: %s", errtree.Of(err), errtree.Of(plain))
			}
			_, err = d.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: linearizable})
			if !d.native && !ends(err, plain) {
				t.Errorf("BEGIN without a scope: %s\nbut alone: %s", errtree.Of(err), errtree.Of(plain))
			}
		}
		if d.ofMySQL {
			return // checks each row at once
		}
		fail := func(ctx context.Context, on execer) error {
			_, err := on.ExecContext(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)")
			return err
		}
		tx, err := d.other.Begin()
		ok(t, err)
		ok(t, fail(t.Context(), tx))
		plain = tx.Commit()
		for name, commit := range map[string]func(context.Context) error{
			"the end of a unit": func(context.Context) error { return nil },
			"an early commit":   func(ctx context.Context) error { return d.Commit(ctx) },
		} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, fail(ctx, d.SQL()))
				return commit(ctx)
			})
			if is(t, err, dbscope.ErrRolledBack); !strings.Contains(errtree.Of(err), errtree.Of(plain)) {
				t.Errorf("%s: %s\nbut alone: %s", name, errtree.Of(err), errtree.Of(plain))
			}
		}
		tx, err = d.SQL().BeginTx(t.Context(), nil) // a transaction without a scope
		ok(t, err)
		ok(t, fail(t.Context(), tx))
		if err := tx.Commit(); !strings.Contains(errtree.Of(err), errtree.Of(plain)) {
			t.Errorf("COMMIT without a scope: %s\nbut alone: %s", errtree.Of(err), errtree.Of(plain))
		}
		want(t, "stored", d.stored(t))
	}, dbscope.AllowUnscoped())
}

func TestAServerThatIsNotThereIsToldAsByThePlainDatabase(t *testing.T) {
	for name, driver := range map[string]string{"pgx": "pgx", "pq": "postgres", "MariaDB": "mysql"} {
		t.Run(name, func(t *testing.T) {
			dsn := "postgres://postgres@127.0.0.1:1/nothing?sslmode=disable"
			if driver == "mysql" {
				dsn = "app@tcp(127.0.0.1:1)/nothing"
			}
			other, err := sql.Open(driver, dsn)
			ok(t, err)
			dbs := map[string]scoped{"sqlscope": overSQL{sqlscope.Open(driver, dsn)}}
			if driver == "pgx" {
				dbs["pgxscope"] = overPgx{pgxscope.Open(dsn)}
			}
			_, plain := other.Exec("SELECT 1")
			for adapter, d := range dbs {
				for call, run := range calls {
					err := dbscope.Run(t.Context(), func(ctx context.Context) error { return run(ctx, d.SQL(), "SELECT 1") })
					if !errors.As(err, new(*net.OpError)) || !errors.Is(err, syscall.ECONNREFUSED) ||
						!errors.As(plain, new(*net.OpError)) || errors.Is(err, sqldriver.ErrBadConn) {
						t.Errorf("%s, %s: %s\nbut alone: %s", adapter, call, errtree.Of(err), errtree.Of(plain))
					}
				}
				if err := d.SQL().Ping(); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s, Ping: %s", adapter, errtree.Of(err))
				}
				ok(t, d.Close())
			}
			ok(t, other.Close())
		})
	}
}

// errBrokenPipe is an error of a driver that also lets database/sql try again.
var errBrokenPipe = fmt.Errorf("%w: %w", sqldriver.ErrBadConn, &net.OpError{Op: "write", Err: syscall.EPIPE})

func TestALostConnectionTellsItsCauseButNotDatabaseSQLToTryAgain(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		for way, run := range ways {
			f.at(storeOne, errBrokenPipe, nil)
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 2))
				err := run(ctx, d, storeOne)
				if !errors.Is(err, syscall.EPIPE) || !errors.As(err, new(*net.OpError)) || errors.Is(err, sqldriver.ErrBadConn) {
					t.Errorf("%s: %s", way, errtree.Of(err))
				}
				return nil
			}), dbscope.ErrRolledBack)
		}
		f.at("BEGIN", errBrokenPipe, nil)
		if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("BEGIN: %s", errtree.Of(err))
		}
		f.at("COMMIT", errBrokenPipe, nil)
		if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("COMMIT: %s", errtree.Of(err))
		}
	})
}

func TestAConnectionThatCannotBeMadeIsTriedByOnePoolOnly(t *testing.T) {
	dialed := 0
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		return sql.OpenDB(unreachable{&dialed}), nil
	}, dbscope.AllowUnscoped())
	for _, ctx := range []func(func(context.Context) error) error{
		func(run func(context.Context) error) error { return run(t.Context()) },
		func(run func(context.Context) error) error { return dbscope.Run(t.Context(), run) },
	} {
		for call, run := range calls {
			dialed = 0
			err := ctx(func(ctx context.Context) error { return run(ctx, db.SQL(), "SELECT 1") })
			if err == nil || errors.Is(err, sqldriver.ErrBadConn) || dialed > 3 { // as often as database/sql tries
				t.Errorf("%s: dialed %d times, then %s", call, dialed, errtree.Of(err))
			}
		}
	}
	ok(t, db.Close())
}

// unreachable is a connector whose driver says so in the way that makes
// database/sql try again.
type unreachable struct{ dialed *int }

func (u unreachable) Connect(context.Context) (sqldriver.Conn, error) {
	*u.dialed++
	return nil, sqldriver.ErrBadConn
}

func (unreachable) Driver() sqldriver.Driver { return nil }

func TestAClassOfSQLSTATEsThatAConnectionSurvivesAbortsTheTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Skip("it aborts none")
		}
		for _, state := range []string{"08006", "08P01", "57P01"} { // as postgres_fdw says them of another server
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, "DO $$ BEGIN RAISE EXCEPTION 'far away' USING ERRCODE = '"+state+"'; END $$")
				if err == nil {
					t.Error("no error")
				}
				is(t, insert(ctx, d, 1), dbscope.ErrRolledBack)
				return nil
			}), dbscope.ErrRolledBack)
		}
		want(t, "stored", d.stored(t))
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestTheCauseOfACancelledContextIsNotTakenForTheStatementsError(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, cause := range []error{
			&pgconn.PgError{Code: "25006"}, &pq.Error{Code: "25006"}, &pgconn.PgError{Code: "23505"}, &mysql.MySQLError{Number: 1792},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			err := dbscope.Run(ctx, func(ctx context.Context) error {
				go func() {
					d.running(t)
					cancel(cause)
				}()
				_, err := d.ExecContext(ctx, d.slow())
				if d.stop(t); err == nil {
					t.Error("no error")
				}
				return err
			})
			d.end(t)
			if is(t, err, cause); strings.Contains(err.Error(), "ROLLBACK failed") {
				t.Errorf("the connection was thought to be alive: %v", err)
			}
			err = dbscope.Run(t.Context(), func(outer context.Context) error {
				ctx, cancel := context.WithCancelCause(outer)
				rows, err := d.SQL().QueryContext(ctx, "SELECT 1")
				ok(t, err)
				cancel(cause)
				for rows.Next() {
				}
				return errors.Join(rows.Err(), rows.Close())
			}, dbscope.ReadOnly())
			if err != nil && strings.Contains(err.Error(), "begun with the option ReadOnly") {
				t.Errorf("a read was refused as a write: %v", err)
			}
		}
	})
}

// end ends statements on PostgreSQL that run on though their client has gone.
func (d *opened) end(t *testing.T) {
	if !d.postgres {
		return
	}
	drivertest.Eventually(t, "nothing runs", func() bool {
		var n int
		ok(t, d.other.QueryRow("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "+
			"WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid() AND datname = current_database() AND state = 'active'").Scan(&n))
		return n == 0
	})
}
