package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// pooledDSN is for Debian's PgBouncer, which knows nothing of prepared
// statements.
const pooledDSN = dsn + "&default_query_exec_mode=cache_describe"

// pooling starts a PgBouncer on each node.
func pooling(t *testing.T, servers ...*pgtest.Server) (hosts []string) {
	for _, s := range servers {
		hosts = append(hosts, pgbouncer.Start(t, s).Addr())
	}
	return hosts
}

// askOnly is for a watch that asks a host only when it was told to, and while
// there is no primary.
func askOnly() cluster.Option { return cluster.PollEvery(time.Hour) }

// asked has the watch ask a host, and waits for the answer.
func asked(t *testing.T, nodes *cluster.Cluster, host string) (node cluster.Node) {
	t.Helper()
	since := time.Now()
	eventually(t, host+" has answered", func() bool {
		all := nodes.Nodes()
		node = all[slices.IndexFunc(all, func(n cluster.Node) bool { return n.Host == host })]
		answered := node.Seen.After(since) && node.Err == nil
		if !answered {
			nodes.Failed(host, errors.New("the test has a question"))
		}
		return answered
	})
	return node
}

// R12.
func TestBehindPgBouncerRolesAreFoundAndUnitsGoWhereTheyBelong(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	hosts := pooling(t, standby, primary)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			nodes := cluster.New(cluster.List(hosts...))
			db := open(pooledDSN, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			fresh(t, nodes, 1, db)
			for range 10 {
				host, err := where(t.Context(), db)
				if err != nil || host != at(primary) || db.Host() != hosts[1] {
					t.Errorf("a unit that may write ran on %s, %v, and Host is %s", host, err, db.Host())
				}
				host, err = where(t.Context(), db, dbscope.ReadOnly())
				if err != nil || host != at(standby) {
					t.Errorf("a unit that only reads ran on %s, %v", host, err)
				}
			}
		})
	}
}

// R14.
func TestBehindPgBouncerAClientReadsItsOwnWrites(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	hosts := pooling(t, primary, standby)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			on := onPostgres(t, primary, open, standby)
			on.hosts = hosts
			on.open = func(opts ...dbscope.DBOption) database { return open(pooledDSN, opts...) }
			readOwnWrites(t, on)
		})
	}
}

// R12. PgBouncer refuses statements while its server is down, but for the one by
// which it notices.
func TestBehindPgBouncerWritesFollowAPromotion(t *testing.T) {
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			primary := pgtest.Start(t)
			standby := primary.Standby(t)
			hosts := pooling(t, primary, standby)
			nodes := cluster.New(cluster.List(hosts...), cluster.Wait(300*time.Millisecond), askOnly())
			db := open(pooledDSN, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			watched(t, db)
			ok(t, write(t.Context(), db, "CREATE TABLE promoted (n int)"))
			fresh(t, nodes, 1, db)
			arrived(t, standby, "promoted")
			primary.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := write(ctx, db, "INSERT INTO promoted VALUES (0)"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a unit that PgBouncer keeps waiting says %v", err)
			}
			eventually(t, "PgBouncer refuses, and the cluster leaves it", func() bool {
				err := write(t.Context(), db, "INSERT INTO promoted VALUES (0)") // on another connection
				if err == nil {
					t.Fatal("a unit has written")
				}
				return errors.Is(err, cluster.ErrNoPrimary) && strings.Contains(err.Error(), "server login has been failing")
			})
			host, err := where(t.Context(), db, dbscope.ReadOnly())
			if err != nil || host != at(standby) {
				t.Errorf("a unit that only reads ran on %s, %v", host, err)
			}
			standby.Query(t, standby.DSN("postgres"), "SELECT pg_promote()")
			asked(t, nodes, hosts[1])
			ok(t, write(t.Context(), db, "INSERT INTO promoted VALUES (1)"))
			primary.Restart(t) // as if nothing had happened
			if n := asked(t, nodes, hosts[0]); !n.Primary {
				t.Errorf("the old primary is seen as %+v", n)
			}
			for range 20 {
				if host, err := where(t.Context(), db); err != nil || host != at(standby) || db.Host() != hosts[1] {
					t.Fatalf("a unit that writes ran on %s, %v, and Host is %s", host, err, db.Host())
				}
			}
		})
	}
}

// forgetful has a standby that can come back with less replayed than the watch
// has seen. That ends the connections to it, but not those to its PgBouncer.
type forgetful struct {
	primary, standby *pgtest.Server
	hosts            []string
	less             string // the position to come back to
}

func startForgetful(t *testing.T) *forgetful {
	// What is written to disk comes back.
	f := &forgetful{primary: pgtest.Start(t, "checkpoint_timeout = 1h", "bgwriter_lru_maxpages = 0")}
	f.standby = f.primary.Standby(t)
	f.hosts = pooling(t, f.primary, f.standby)
	return f
}

// write returns a context with the token of a write that the watch has seen on
// the standby. own is 2 then, and 1 when the standby comes back.
func (f *forgetful) write(t *testing.T, db database, nodes *cluster.Cluster) (ctx context.Context) {
	ok(t, write(t.Context(), db, "CREATE TABLE own (n int)"))
	ok(t, write(t.Context(), db, "INSERT INTO own VALUES (1)"))
	f.less = f.primary.Query(t, f.primary.DSN("postgres"), "SELECT pg_current_wal_flush_lsn()")
	fresh(t, nodes, 1, db)
	ctx = dbscope.ReadYourWrites(t.Context(), "")
	ok(t, write(ctx, db, "UPDATE own SET n = 2"))
	eventually(t, "the replica has the write", func() bool {
		n, replica, err := readOwn(t.Context(), db, forgetfulRead)
		return err == nil && n == 2 && replica == 1
	})
	asked(t, nodes, f.hosts[1])
	if n, replica := readForgetful(ctx, t, db); n != 2 || replica != 1 {
		t.Fatalf("before, it reads %d on %d replica", n, replica)
	}
	return ctx
}

const forgetfulRead = "SELECT n || ' ' || pg_is_in_recovery()::int FROM own"

func readForgetful(ctx context.Context, t *testing.T, db database) (n, replica int) {
	n, replica, err := readOwn(ctx, db, forgetfulRead)
	ok(t, err)
	return n, replica
}

// forget kills the standby and starts it again.
func (f *forgetful) forget(t *testing.T) {
	own := f.standby.DSN("postgres")
	f.standby.Query(t, own, "ALTER SYSTEM SET recovery_target_lsn = '"+f.less+"'")
	f.standby.Kill()
	f.standby.Restart(t)
	if n := f.standby.Query(t, own, "SELECT n FROM own"); n != "1" {
		t.Fatalf("the replica came back with %s", n)
	}
}

// R14.
func TestBehindPgBouncerAReplicaThatComesBackWithLessIsNotBelieved(t *testing.T) {
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			f := startForgetful(t)
			nodes := cluster.New(cluster.List(f.hosts...), askOnly(), cluster.MaxLag(time.Hour))
			db := open(pooledDSN, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			ctx := f.write(t, db, nodes)
			f.forget(t)
			if n, replica := readForgetful(ctx, t, db); n != 2 {
				t.Errorf("it reads %d on %d replica", n, replica)
			}
		})
	}
}

// R14: the question and the unit are on one connection of the server.
func TestBehindPgBouncerAReplicaThatComesBackWithLessAfterTheQuestionIsNotRead(t *testing.T) {
	f := startForgetful(t)
	nodes := cluster.New(cluster.List(f.hosts...), askOnly(), cluster.MaxLag(time.Hour))
	var forgets atomic.Bool
	db := overPgx{pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(strings.ReplaceAll(pooledDSN, "{host}", host))
		if err != nil {
			return nil, err
		}
		config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &delayed{conn, func(sent []byte) {
				if bytes.Contains(sent, []byte(forgetfulRead)) && forgets.CompareAndSwap(true, false) {
					f.forget(t)
				}
			}}, err
		}
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Router(nodes))}
	defer func() { ok(t, db.Close()) }()
	ctx := f.write(t, db, nodes)
	forgets.Store(true)
	n, replica, err := readOwn(ctx, db, forgetfulRead)
	if forgets.Load() || err == nil && n != 2 {
		t.Errorf("it reads %d on %d replica", n, replica)
	}
	if n, replica := readForgetful(ctx, t, db); n != 2 {
		t.Errorf("then it reads %d on %d replica", n, replica)
	}
}

// delayed is a connection before whose writes something happens.
type delayed struct {
	net.Conn
	before func(sent []byte)
}

func (d *delayed) Write(p []byte) (int, error) {
	d.before(p)
	return d.Conn.Write(p)
}

// R14: the replica may have been started again since the watch has asked it.
func TestBehindPgBouncerAReadWithATokenCostsARoundTrip(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	hosts := pooling(t, primary, standby)
	proxies := map[string]*wire.Proxy{}
	for _, host := range hosts {
		proxies[host] = wire.Start(t, host)
	}
	nodes := cluster.New(cluster.List(hosts...), askOnly())
	db := openCounted(t, nodes, pooledDSN, proxies)
	ok(t, write(t.Context(), db, "CREATE TABLE counted (n int)"))
	fresh(t, nodes, 1, db)
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, write(ctx, db, "INSERT INTO counted VALUES (1)"))
	read := func(ctx context.Context) int {
		proxies[hosts[1]].Reset()
		host, err := where(ctx, db, dbscope.ReadOnly(), dbscope.AwaitEnd()) // so that each end is counted with its unit
		if err != nil || host != at(standby) {
			t.Errorf("it read on %s, %v", host, err)
		}
		return proxies[hosts[1]].RoundTrips()
	}
	read(t.Context()) // which describes it
	without := read(t.Context())
	eventually(t, "the watch has seen the write on the replica", func() bool {
		return !asked(t, nodes, hosts[1]).Position.Before(asked(t, nodes, hosts[0]).Position)
	})
	with := read(ctx)
	if without != 2 || with != 3 {
		t.Errorf("a read takes %d round trips, and with a token %d", without, with)
	}
}
