package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// openCounted opens a cluster whose sessions go through proxies. Its own
// questions do not: it opens its pool of a host before sessions come to it.
func openCounted(t *testing.T, nodes *cluster.Cluster, dsn string, proxies map[string]*wire.Proxy) overPgx {
	var mu sync.Mutex
	asking := map[string]bool{}
	db := pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
		mu.Lock()
		defer mu.Unlock()
		through := strings.ReplaceAll(dsn, "{host}", host)
		if asking[host] {
			through = proxies[host].DSN(through)
		}
		asking[host] = true
		config, err := pgxpool.ParseConfig(through)
		if err != nil {
			return nil, err
		}
		config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // it would count
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Router(nodes))
	t.Cleanup(func() { ok(t, db.Close()) })
	return overPgx{db}
}

// R14: reading one's own writes costs no round trip, where the last answer of
// the replica covers them.
func TestTokensCostNoRoundTripsForWritesAndReads(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	proxies := map[string]*wire.Proxy{}
	for _, s := range []*pgtest.Server{primary, standby} {
		proxies[at(s)] = wire.Start(t, fmt.Sprintf("127.0.0.1:%d", s.Port()))
	}
	nodes := cluster.New(cluster.List(hostsOf(primary, standby)...), cluster.SignedBy(key))
	db := openCounted(t, nodes, dsn, proxies)
	fresh(t, nodes, 1, db)
	trips := func() (n int) {
		for _, p := range proxies {
			n += p.RoundTrips()
			p.Reset()
		}
		return n
	}
	write1 := func(ctx context.Context) error {
		return write(ctx, db, "UPDATE counted SET n = n + 1 WHERE n > $1", 0)
	}
	read := func(ctx context.Context) (host string) {
		host, err := where(ctx, db, dbscope.ReadOnly(), dbscope.AwaitEnd()) // so that each end is counted with its unit
		ok(t, err)
		return host
	}
	ok(t, write(t.Context(), db, "CREATE TABLE counted (n int)"))
	ok(t, write1(t.Context())) // which prepares it
	read(t.Context())
	trips()
	ok(t, write1(t.Context()))
	writeAlone := trips()
	read(t.Context())
	readAlone := trips()
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, write(ctx, db, "INSERT INTO counted VALUES (1)"))
	trips()
	ok(t, write1(ctx))
	writeWith := trips()
	token := dbscope.ReadYourWrites(t.Context(), dbscope.WritesToken(ctx))
	written := time.Now()
	eventually(t, "the replica has answered since", func() bool {
		for _, n := range nodes.Nodes() {
			if n.Host == at(standby) {
				return n.Seen.After(written.Add(100 * time.Millisecond))
			}
		}
		return false
	})
	trips()
	host := read(token)
	readWith := trips()
	t.Logf("round trips: a write %d, with a token %d; a read on a replica %d, with a token %d", writeAlone, writeWith, readAlone, readWith)
	if host != at(standby) || writeAlone != 2 || writeWith != 2 || readAlone != 2 || readWith != 2 {
		t.Errorf("it read on %s, which is a replica: %v", host, host == at(standby))
	}
}
