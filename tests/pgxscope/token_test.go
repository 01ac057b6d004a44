package pgxscope_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// fixed is a cluster's router without its watching: of one host, which writes.
type fixed struct{ *cluster.Cluster }

func fixedHost() dbscope.DBOption {
	return dbscope.Router(fixed{cluster.New(nil, cluster.SignedBy(make([]byte, 32)))})
}

func (fixed) Use(func(context.Context, string) (driver.Engine, error), func(string, bool)) func() error {
	return func() error { return nil }
}

func (fixed) Route(context.Context, driver.RouteRequest) (driver.Route, error) {
	return driver.Route{Host: "server"}, nil
}

func (fixed) Failed(string, error) {}
func (fixed) Host() string         { return "server" }

func openTokens(t *testing.T, mode pgx.QueryExecMode) (*opened, *wire.Proxy) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	return openDSN(t, proxy.DSN(dsn), dsn, mode, fixedHost()), proxy
}

// newest is the token of a commit whose position is not known. Tokens have the
// time in them.
func isNewest(token string) bool { return strings.Contains(token, "________") }

// R14: what a COMMIT says of itself is not changed by the questions around it.
func TestACommitWithATokenThatIsCutIsUnknownUntilItsAnswerIsThere(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openTokens(t, mode)
			var stored []int
			id := 0
			for _, c := range []struct {
				at        wire.CutAt
				stored    bool
				committed bool
			}{
				{wire.CutAt{Message: "Query", Containing: "commit", When: wire.Before}, false, false},
				{wire.CutAt{Message: "Query", Containing: "commit", When: wire.During}, false, false},
				{wire.CutAt{Message: "Query", Containing: "commit", When: wire.After}, true, false},
				{wire.CutAt{Message: "RowDescription", When: wire.Before}, true, false}, // of the first question
				{wire.CutAt{Message: "DataRow", When: wire.During}, true, false},
				{wire.CutAt{Message: "DataRow", When: wire.After}, true, false},
				{wire.CutAt{Message: "CommandComplete", Containing: "SELECT", When: wire.Before}, true, false},
				{wire.CutAt{Message: "CommandComplete", Containing: "SELECT", When: wire.After}, true, false},
				{wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: wire.Before}, true, false},
				{wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: wire.During}, true, false},
				{wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: wire.After}, true, true},
				{wire.CutAt{Message: "ReadyForQuery", When: wire.Before}, true, true},
				{wire.CutAt{Message: "ReadyForQuery", When: wire.During}, true, true},
			} {
				id++
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				cuts := proxy.Cuts()
				err := dbscope.Run(ctx, func(ctx context.Context) error {
					if err := insert(ctx, d, id); err != nil {
						return err
					}
					c.at.Times = 1
					proxy.Cut(c.at)
					return nil
				})
				what := fmt.Sprintf("cut %v %s %s", c.at.When, c.at.Message, c.at.Containing)
				if proxy.Cuts() != cuts+1 {
					t.Fatalf("%s: there was no cut", what)
				}
				if c.committed && err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if !c.committed {
					is(t, err, dbscope.ErrCommitUnknown)
				}
				if c.stored {
					stored = append(stored, id)
				}
				want(t, "stored after it was "+what, d.stored(t), stored...)
				if token := dbscope.WritesToken(ctx); !isNewest(token) {
					t.Errorf("%s: the token is %q, and not that of the newest position", what, token)
				}
			}
		})
	}
}

func TestACommitThatIsRefusedOrOfNothingMakesNoToken(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, _ := openTokens(t, mode)
			unit := func(token bool, wants error, fn func(ctx context.Context) error) {
				t.Helper()
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				if err := dbscope.Run(ctx, fn); wants == nil {
					ok(t, err)
				} else {
					is(t, err, wants)
				}
				if got := dbscope.WritesToken(ctx); (got != "") != token || isNewest(got) {
					t.Errorf("the token is %q", got)
				}
			}
			unit(true, nil, func(ctx context.Context) error { return insert(ctx, d, 1) })
			unit(false, dbscope.ErrRolledBack, func(ctx context.Context) error { // a constraint that is deferred
				_, err := d.Exec(ctx, "INSERT INTO t VALUES (2, 999)")
				return err
			})
			unit(false, dbscope.ErrRolledBack, func(ctx context.Context) error { // a failure that is ignored
				_ = insert(ctx, d, 1)
				return nil
			})
			unit(false, nil, func(ctx context.Context) error {
				return d.QueryRow(ctx, "SELECT count(*) FROM t").Scan(new(int))
			})
			unit(false, nil, func(ctx context.Context) error { // a statement that was never sent
				_, err := d.Exec(ctx, "SELECT $1::int", struct{}{})
				if err == nil {
					t.Error("pgx encodes anything")
				}
				return nil
			})
			want(t, "stored", d.stored(t), 1)
			if n := d.dialed.Load(); n != 1 {
				t.Errorf("%d connections were dialed", n)
			}
		})
	}
}

// R14: no round trip more.
func TestATokenCostsNoRoundTrip(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			d, proxy := openTokens(t, mode)
			id := 0
			unit := func(ctx context.Context) int {
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error { id++; return insert(ctx, d, id) }))
				proxy.Reset()
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error { id++; return insert(ctx, d, id) }))
				return proxy.RoundTrips()
			}
			without := unit(t.Context())
			if with := unit(dbscope.ReadYourWrites(t.Context(), "")); with != without {
				t.Errorf("%d round trips with a token, %d without:\n%v", with, without, proxy.Messages())
			}
			if !slices.ContainsFunc(proxy.Messages(), func(m string) bool { return strings.Contains(m, "flush_lsn") }) {
				t.Error("no position was asked for")
			}
		})
	}
}
