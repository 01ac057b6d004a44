package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// verdicts are what units were told became of their rows.
type verdicts struct {
	mu                         sync.Mutex
	committed, undone, unknown []int
}

func (v *verdicts) note(id int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err == nil:
		v.committed = append(v.committed, id)
	case errors.Is(err, dbscope.ErrCommitUnknown):
		v.unknown = append(v.unknown, id)
	default:
		v.undone = append(v.undone, id)
	}
}

// check compares with what the table holds.
func (v *verdicts) check(t *testing.T, d *opened) {
	t.Helper()
	stored := map[int]bool{}
	for _, id := range d.stored(t) {
		stored[id] = true
	}
	wrong := func(ids []int, is bool) []int {
		return slices.DeleteFunc(slices.Clone(ids), func(id int) bool { return stored[id] == is })
	}
	if ids := wrong(v.committed, true); len(ids) > 0 {
		t.Errorf("called committed, but not stored: %v", ids)
	}
	if ids := wrong(v.undone, false); len(ids) > 0 {
		t.Errorf("called rolled back, but stored: %v", ids)
	}
	t.Logf("%d committed, %d undone, %d unknown", len(v.committed), len(v.undone), len(v.unknown))
}

// settleTime is for a busy machine, on which the server crashes again and again.
var settleTime = dbscope.CommitTimeout(time.Minute)

// cutting runs units on 8 connections while a proxy cuts their commits, until
// there were so many cuts.
func cutting(t *testing.T, d *opened, proxy *wire.Proxy, cuts int) *verdicts {
	return cuttingUnits(t, proxy, cuts, func(ctx context.Context, id int) error { return insert(ctx, d, id) })
}

// cuttingUnits is cutting for units that store their id in any way.
func cuttingUnits(t *testing.T, proxy *wire.Proxy, cuts int, unit func(ctx context.Context, id int) error) *verdicts {
	v := &verdicts{}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := n*8 + w
				// Where the DB has a router the commit brings a token.
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				err := dbscope.Run(ctx, func(ctx context.Context) error { return unit(ctx, id) }, settleTime)
				if errors.Is(err, dbscope.ErrCommitUnknown) {
					t.Logf("%d: %v", id, err)
				}
				v.note(id, err)
			}
		})
	}
	for before := proxy.Cuts(); proxy.Cuts() < before+cuts; time.Sleep(time.Millisecond) {
		if rand.IntN(2) == 0 {
			proxy.Cut(wire.CutAt{Message: "Query", Containing: "commit", When: moments[rand.IntN(3)], Times: 1})
		} else { // its answer
			proxy.Cut(wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: moments[rand.IntN(2)], Times: 1})
		}
	}
	proxy.Mend()
	close(stop)
	workers.Wait()
	return v
}

func cutsToMake(long int) int {
	if os.Getenv("DBSCOPE_LONG") != "" {
		return long
	}
	return 60
}

func openSettled(t *testing.T, server *pgtest.Server, opts ...dbscope.DBOption) (*opened, *wire.Proxy) {
	dsn := server.CreateDatabase(t)
	server.Query(t, dsn, schema+"; "+dbscope.LedgerTable)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
	return openPool(t, proxy.DSN(dsn), dsn, func(config *pgxpool.Config) {
		config.MaxConns = 8
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}, opts...), proxy
}

func TestACommitWhoseAnswerIsCutIsSettled(t *testing.T) {
	for name, opts := range map[string][]dbscope.DBOption{
		"by status": {dbscope.SettleByStatus()}, "by ledger": {dbscope.SettleByLedger()},
		"by status, with tokens": {dbscope.SettleByStatus(), fixedHost()},
	} {
		t.Run(name, func(t *testing.T) {
			d, proxy := openSettled(t, pgtest.Shared(t), opts...)
			v := cutting(t, d, proxy, cutsToMake(500))
			v.check(t, d)
			if len(v.unknown) > 0 {
				t.Errorf("unknown are %v", v.unknown)
			}
			if len(v.undone) == 0 {
				t.Error("no commit was cut on its way")
			}
		})
	}
}

// After a crash the status of a transaction means nothing: its id may be
// another one's. The ledger knows.
func TestACrashBetweenTheCommitAndTheQuestionIsNeverSettledWrongly(t *testing.T) {
	for name, settle := range map[string]dbscope.DBOption{
		"by status": dbscope.SettleByStatus(), "by ledger": dbscope.SettleByLedger(),
	} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Start(t)
			d, proxy := openSettled(t, server, settle)
			crashed := make(chan struct{})
			stop := make(chan struct{})
			go func() {
				defer close(crashed)
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(200+rand.IntN(300)) * time.Millisecond):
						server.Kill()
						server.Restart(t)
					}
				}
			}()
			v := cutting(t, d, proxy, cutsToMake(300))
			close(stop)
			<-crashed
			v.check(t, d)
			if name == "by ledger" && len(v.unknown) > 0 {
				t.Errorf("unknown are %v, though the database could be reached", v.unknown)
			}
		})
	}
}
