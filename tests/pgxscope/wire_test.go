package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// openWire opens a database through a proxy.
func openWire(t *testing.T, mode pgx.QueryExecMode) (*opened, *wire.Proxy) {
	server := pgtest.Shared(t)
	dsn := server.CreateDatabase(t)
	server.Query(t, dsn, schema)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
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

func TestASavepointRidesToo(t *testing.T) {
	d, proxy := openWire(t, pgx.QueryExecModeCacheStatement)
	next := 0
	unit := func() {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.Session(ctx)
			ok(t, err)
			nested, err := tx.Begin(ctx)
			ok(t, err)
			next++
			ok(t, insert(ctx, nested, next))
			return nested.Commit(ctx)
		}))
	}
	unit()
	unit()
	proxy.Reset()
	unit()
	if got := proxy.RoundTrips(); got != 3 { // begin, savepoint and insert; release; commit
		t.Errorf("%d round trips:\n%v", got, proxy.Messages())
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
							// A connection is open, and only the statement is cut.
							is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
								return errors.Join(insert(ctx, d, 1), errStop)
							}), errStop)
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
