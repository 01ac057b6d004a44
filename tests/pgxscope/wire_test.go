package pgxscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// openWire opens a database through a proxy.
func openWire(t *testing.T, mode pgx.QueryExecMode) (*opened, *wire.Proxy) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	return openDSN(t, proxy.DSN(dsn), dsn, mode), proxy
}

// Rule 2.
func TestAUnitOfNStatementsTakesNPlusOneRoundTrips(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openWire(t, mode)
			next := 0
			unit := func(n int) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					for range n {
						next++
						if err := insert(ctx, d, next); err != nil {
							return err
						}
						var id int
						if err := d.QueryRow(ctx, "SELECT id FROM t WHERE id = $1", next).Scan(&id); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			unit(1) // connects, and fills the statement cache
			unit(1)
			each := 1
			if mode == pgx.QueryExecModeDescribeExec {
				each = 2 // it asks for a description first, by its nature
			}
			for _, n := range []int{1, 2, 5} {
				proxy.Reset()
				unit(n)
				if got, want := proxy.RoundTrips(), each*2*n+1; got != want {
					t.Errorf("%d statements took %d round trips, want %d:\n%v", 2*n, got, want, proxy.Messages())
				}
			}
		})
	}
}

func TestAScopeThatDoesNothingSendsNothing(t *testing.T) {
	d, proxy := openWire(t, pgx.QueryExecModeCacheStatement)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) }))
	proxy.Reset()
	for _, end := range []error{nil, errStop} {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.Session(ctx)
			ok(t, err)
			nested, err := tx.Begin(ctx)
			ok(t, err)
			ok(t, nested.Rollback(ctx))
			nested, err = tx.Begin(ctx)
			ok(t, err)
			ok(t, nested.Commit(ctx))
			ok(t, tx.Rollback(ctx))
			return end
		}), end)
	}
	if sent := proxy.Messages(); len(sent) > 0 {
		t.Errorf("it sent %v", sent)
	}
}

// The first statement of each kind, of a unit and of a savepoint in it, takes
// as many round trips as it would alone.
func TestBeginAndSavepointRideWithEachKindOfStatement(t *testing.T) {
	alone := map[string]int{ // in the default mode, after the statement was prepared
		"Exec": 1, "Exec without arguments": 1, "Exec with an option": 1, "Exec with named arguments": 1,
		"Query": 1, "QueryRow": 1, "SendBatch": 1, "SQL": 1, "SQL, joining": 1,
		"CopyFrom": 1, "Prepare": 1, // a statement's name is known after its first time
		"Conn": 2, // BEGIN goes ahead
	}
	d, proxy := openWire(t, pgx.QueryExecModeCacheStatement)
	id := 0
	for kind, trips := range alone {
		unit := func() {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				id++
				return statements[kind](ctx, d.DB, "t", id)
			}))
		}
		unit()
		unit()
		proxy.Reset()
		unit()
		if got := proxy.RoundTrips(); got != trips+1 { // and commit
			t.Errorf("%s: %d round trips, want %d:\n%v", kind, got, trips+1, proxy.Messages())
		}
	}
	proxy.Reset()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return statements["nested Begin"](ctx, d.DB, "t", id+1)
	}))
	if got := proxy.RoundTrips(); got != 2 { // no savepoint where nothing was done before
		t.Errorf("a nested transaction from the start: %d round trips:\n%v", got, proxy.Messages())
	}
	proxy.Reset()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return errors.Join(insert(ctx, d, id+2), statements["nested Begin"](ctx, d.DB, "t", id+3))
	}))
	if got := proxy.RoundTrips(); got != 4 { // begin and insert; savepoint and insert; release; commit
		t.Errorf("a savepoint: %d round trips:\n%v", got, proxy.Messages())
	}
}

func TestAPoolThatWasNotConfiguredBeginsInARoundTripOfItsOwn(t *testing.T) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	o := &opened{dsn: dsn, DB: pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		return pgxpool.New(context.WithoutCancel(ctx), proxy.DSN(dsn))
	})}
	t.Cleanup(func() { ok(t, o.Close()) })
	for id := range 3 {
		proxy.Reset()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, o, id) }))
	}
	if got := proxy.RoundTrips(); got != 3 {
		t.Errorf("%d round trips:\n%v", got, proxy.Messages())
	}
	want(t, "stored", o.stored(t), 0, 1, 2)
}

// A BEGIN that the server refuses takes its statement with it, whichever way
// that was sent: nothing runs outside a transaction.
func TestAStatementWhoseBeginIsRefusedDoesNotRun(t *testing.T) {
	standby := pgtest.Shared(t).Standby(t) // it knows no SERIALIZABLE
	dsn := standby.DSN("postgres")
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) { refusesBegin(t, openDSN(t, dsn, dsn, mode)) })
	}
	bouncer := pgbouncer.Start(t, standby)
	for _, mode := range modes[1:] {
		t.Run("PgBouncer/"+mode.String(), func(t *testing.T) { refusesBegin(t, openDSN(t, bouncer.DSN(dsn), dsn, mode)) })
	}
}

func refusesBegin(t *testing.T, d *opened) {
	mark := func(ctx context.Context, kind string) error {
		const sql = "SELECT set_config('app.mark', 'ran', false)"
		var err error
		switch kind {
		case "Exec":
			_, err = d.Exec(ctx, sql+" WHERE $1 = 1", 1)
		case "Exec without arguments":
			_, err = d.Exec(ctx, sql)
		case "QueryRow":
			err = d.QueryRow(ctx, sql).Scan(new(string))
		case "SendBatch":
			b := &pgx.Batch{}
			b.Queue(sql)
			err = d.SendBatch(ctx, b).Close()
		case "SQL":
			_, err = d.SQL().ExecContext(ctx, sql)
		}
		return err
	}
	for _, kind := range []string{"Exec", "Exec without arguments", "QueryRow", "SendBatch", "SQL"} {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			var refused *pgconn.PgError
			if err := mark(ctx, kind); !errors.As(err, &refused) || refused.Code != "0A000" {
				t.Errorf("%s: error is %v", kind, err)
			}
			is(t, mark(ctx, kind), dbscope.ErrRolledBack)
			return nil
		}, dbscope.Isolation(sql.LevelSerializable))
		is(t, err, dbscope.ErrRolledBack)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var got string
			ok(t, d.QueryRow(ctx, "SELECT coalesce(current_setting('app.mark', true), '')").Scan(&got))
			if got != "" {
				t.Errorf("%s: the statement ran", kind)
			}
			return nil
		}))
	}
	if n := d.dialed.Load(); n != 1 {
		t.Errorf("%d connections were dialed", n)
	}
}

// pieces is a connection that hands what it reads out byte by byte.
type pieces struct{ net.Conn }

func (p pieces) Read(b []byte) (int, error) { return p.Conn.Read(b[:min(len(b), 1)]) }

// The server's notices come between the answers, and the network cuts them up.
func TestTheAdapterPassesTheSuiteHoweverTheAnswersArrive(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			conform(t, func(t *testing.T, opts ...dbscope.DBOption) *opened {
				dsn := createDatabase(t)
				return openPool(t, dsn, dsn, func(config *pgxpool.Config) {
					config.ConnConfig.DefaultQueryExecMode = mode
					config.ConnConfig.RuntimeParams["client_min_messages"] = "debug5"
					config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
						c, err := (&net.Dialer{}).DialContext(ctx, network, address)
						return pieces{c}, err
					}
				}, opts...)
			})
		})
	}
}

var moments = []wire.When{wire.Before, wire.During, wire.After}

// Whatever pgx calls it, a COMMIT whose answer is lost may be stored.
func TestACommitThatIsCutIsUnknown(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openWire(t, mode)
			var stored []int
			for id, when := range moments {
				proxy.Cut(wire.CutAt{Message: "Query", Containing: "commit", When: when, Times: 1})
				err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, id) })
				is(t, err, dbscope.ErrCommitUnknown)
				if errors.Is(err, dbscope.ErrRolledBack) {
					t.Errorf("cut %v: it was called rolled back", when)
				}
				if when == wire.After {
					stored = append(stored, id)
				}
				want(t, fmt.Sprintf("stored after a cut %v", when), d.stored(t), stored...)
			}
			for _, answer := range []string{"CommandComplete", "ReadyForQuery"} {
				id := 10 + len(stored)
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					if err := insert(ctx, d, id); err != nil {
						return err
					}
					proxy.Cut(wire.CutAt{Message: answer, When: wire.Before, Times: 1})
					return nil
				})
				is(t, err, dbscope.ErrCommitUnknown)
				stored = append(stored, id)
				want(t, "stored after the answer was cut", d.stored(t), stored...)
			}
		})
	}
}

func TestAStatementThatIsCutIsNeverRunAgainAndLosesItsUnit(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openWire(t, mode)
			for _, statement := range []string{"Exec", "Exec without arguments", "Query", "QueryRow", "SendBatch", "CopyFrom", "SQL"} {
				for _, message := range []string{"Parse", "Bind", "Execute", "Sync", "Query", "CopyData", "DataRow", "CommandComplete", "ReadyForQuery"} {
					for _, when := range moments {
						for _, first := range []bool{true, false} {
							// A connection is open, no answer is under way, and only the statement is cut.
							is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
								return errors.Join(insert(ctx, d, 1), errStop)
							}, dbscope.AwaitEnd()), errStop)
							cuts := proxy.Cuts()
							err := dbscope.Run(t.Context(), func(ctx context.Context) error {
								if !first {
									ok(t, insert(ctx, d, 1))
								}
								proxy.Cut(wire.CutAt{Message: message, When: when, Times: 1})
								err := statements[statement](ctx, d.DB, "t", 2)
								proxy.Mend()
								if proxy.Cuts() == cuts {
									return errStop // it has no such message
								}
								if err == nil {
									return nil // all that mattered had come through
								}
								if err := insert(context.WithoutCancel(ctx), d, 3); err == nil {
									t.Errorf("%s cut %v %s: a later statement ran", statement, when, message)
								}
								return nil
							})
							if err == nil {
								t.Errorf("%s cut %v %s (first: %v): the unit was committed", statement, when, message, first)
							}
							want(t, fmt.Sprintf("stored after %s cut %v %s (first: %v)", statement, when, message, first), d.stored(t))
						}
					}
				}
			}
		})
	}
}
