package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// behindCommit makes the scope's commit run a statement.
func behindCommit(ctx context.Context, d *opened, statement string, args ...any) error {
	session, err := dbscope.Gate(d).Session(ctx)
	if err != nil {
		return err
	}
	return session.CommitBehind(func(ctx context.Context, c driver.Conn) error {
		return c.(driver.Execer).ExecArgs(ctx, statement, args...)
	})
}

func TestAStatementThatGoesWithTheCommitTakesNoRoundTripMore(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{"plain": nil, "with a token": {fixedHost()}, "settled by status": {dbscope.SettleByStatus()}} {
		for _, mode := range modes {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				dsn := createDatabase(t)
				proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
				d := openDSN(t, proxy.DSN(dsn), dsn, mode, opts...)
				id := 0
				unit := func(behind bool) int {
					proxy.Reset()
					ok(t, dbscope.Run(dbscope.ReadYourWrites(t.Context(), ""), func(ctx context.Context) error {
						id++
						ok(t, insert(ctx, d, id))
						if !behind {
							return nil
						}
						return dbscope.BeforeCommit(ctx, func(ctx context.Context) error {
							id++
							return behindCommit(ctx, d, "INSERT INTO t (id) VALUES ($1)", id)
						})
					}))
					return proxy.RoundTrips()
				}
				unit(true) // connects, and fills the statement cache
				more := 0
				if mode == pgx.QueryExecModeDescribeExec {
					more = 1
				}
				if got, without := unit(true), unit(false); got != without+more {
					t.Errorf("it took %d round trips, want %d:\n%v", got, without+more, proxy.Messages())
				}
				if got := len(d.stored(t)); got != id {
					t.Errorf("%d rows are stored, want %d", got, id)
				}
			})
		}
	}
}

func TestAUnitIsStoredWithTheStatementsThatGoWithItsCommitOrNotAtAll(t *testing.T) {
	for _, mode := range modes {
		dsn := createDatabase(t)
		d := openDSN(t, dsn, dsn, mode)
		for name, c := range lastStatements {
			for _, others := range []int{0, 2} { // that go before it
				pgtest.Shared(t).Query(t, dsn, "DELETE FROM t")
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					for i := range others {
						ok(t, behindCommit(ctx, d, "INSERT INTO t (id) VALUES ($1)", 20+i))
					}
					return behindCommit(ctx, d, c.sql, c.args...)
				})
				place := fmt.Sprintf("%v, %s behind %d others: %v", mode, name, others, err)
				var wanted []int
				if c.code == "" && !c.failed {
					wanted = []int{1, 10, 20, 21}[:2+others]
				}
				if got := d.stored(t); !slices.Equal(got, wanted) {
					t.Errorf("%s: %v are stored, want %v", place, got, wanted)
				}
				var refused *pgconn.PgError
				switch {
				case c.code == "" && !c.failed:
					if err != nil {
						t.Error(place)
					}
				case !errors.Is(err, dbscope.ErrRolledBack), c.code != "" && (!errors.As(err, &refused) || refused.Code != c.code):
					t.Errorf("%s: want ErrRolledBack and %s", place, c.code)
				}
			}
		}
	}
}

func TestACommitWithAStatementThatIsCutTellsTheTruth(t *testing.T) {
	for _, mode := range modes {
		dsn := createDatabase(t)
		proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
		d := openDSN(t, proxy.DSN(dsn), dsn, mode)
		id := 0
		cuts := proxy.CutEach([]string{"last", "commit", "COMMIT", "INSERT"}, func() {
			id++
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := insert(ctx, d, id); err != nil {
					return err
				}
				return behindCommit(ctx, d, "INSERT INTO t (id) VALUES ($1) /* last */", 100_000+id)
			})
			got := d.stored(t)
			one, two := slices.Contains(got, id), slices.Contains(got, 100_000+id)
			switch {
			case one != two, err == nil && !one, errors.Is(err, dbscope.ErrRolledBack) && one:
				t.Errorf("%v: %v %v are stored, and the unit says %v:\n%v", mode, one, two, err, proxy.Messages())
			case err != nil && one && !errors.Is(err, dbscope.ErrCommitUnknown):
				t.Errorf("%v: it is stored, and the unit says %v", mode, err)
			}
		})
		if cuts < 10 {
			t.Errorf("%v: %d connections were cut", mode, cuts)
		}
	}
}
