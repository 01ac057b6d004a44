package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var key = bytes.Repeat([]byte("k"), 32)

// A client writes, and reads with the token of its write, in another process
// as it were, while replicas stop replaying and go on at random. With the token
// it sees what it wrote; without, now and then it does not.
func TestAClientReadsItsOwnWrites(t *testing.T) {
	pairs := 500
	if os.Getenv("DBSCOPE_LONG") != "" {
		pairs = 10_000
	}
	primary := pgtest.Start(t)
	one, two := primary.Standby(t), primary.Standby(t)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			list := cluster.List(hostsOf(primary, one, two)...)
			nodes := cluster.New(list, cluster.SignedBy(key), cluster.PollEvery(50*time.Millisecond))
			writer := open(dsn, dbscope.Hosts(cluster.New(list, cluster.SignedBy(key))))
			reader := open(dsn, dbscope.Hosts(nodes))
			defer func() { ok(t, errors.Join(writer.Close(), reader.Close())) }()
			ok(t, write(t.Context(), writer, "DROP TABLE IF EXISTS own"))
			ok(t, write(t.Context(), writer, "CREATE TABLE own (id int PRIMARY KEY, n int)"))
			ok(t, write(t.Context(), writer, "INSERT INTO own VALUES (1, 0)"))
			fresh(t, reader, nodes, 2)
			stop := pauseAtRandom(t, one, two)
			defer stop()
			stale, staleWithout, onReplica := 0, 0, 0
			for n := 1; n <= pairs; n++ {
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				ok(t, write(ctx, writer, "UPDATE own SET n = $1", n))
				token := dbscope.WritesToken(ctx)
				got, replica := readOwn(t, dbscope.ReadYourWrites(t.Context(), token), reader)
				if got != n {
					stale++
				}
				if replica {
					onReplica++
				}
				if got, _ := readOwn(t, t.Context(), reader); got != n {
					staleWithout++
				}
			}
			t.Logf("%d pairs: %d stale with the token, %d without; %.0f%% read on replicas", pairs, stale, staleWithout, 100*float64(onReplica)/float64(pairs))
			if stale > 0 || staleWithout == 0 || onReplica == 0 {
				t.Error("that is not as it should be")
			}
		})
	}
}

func readOwn(t *testing.T, ctx context.Context, db database) (n int, replica bool) {
	t.Helper()
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		text, err := db.text(ctx, "SELECT n || ' ' || pg_is_in_recovery() FROM own")
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(text, &n, &replica)
		return err
	}, dbscope.ReadOnly()))
	return n, replica
}

// pauseAtRandom makes standbys stop replaying and go on, until it is stopped.
func pauseAtRandom(t *testing.T, standbys ...*pgtest.Server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s := standbys[rand.IntN(len(standbys))]
			s.Query(t, s.DSN("postgres"), "SELECT pg_wal_replay_pause()")
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			s.Query(t, s.DSN("postgres"), "SELECT pg_wal_replay_resume()")
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}

func TestATokenThatIsNotValidIsIgnored(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	list := cluster.List(hostsOf(primary, standby)...)
	nodes := cluster.New(list, cluster.SignedBy(key))
	db := adapters["pgxscope"](dsn, dbscope.Hosts(nodes))
	defer func() { ok(t, db.Close()) }()
	fresh(t, db, nodes, 1)
	other := cluster.New(list, cluster.SignedBy(bytes.Repeat([]byte("o"), 32), key))
	rotated := adapters["pgxscope"](dsn, dbscope.Hosts(other))
	defer func() { ok(t, rotated.Close()) }()
	fresh(t, rotated, other, 1)
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_pause()")
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, write(ctx, db, "CREATE TABLE tokens ()"))
	valid := dbscope.WritesToken(ctx)
	if len(valid) != 50 { // 37 bytes
		t.Errorf("the token has %d characters", len(valid))
	}
	for _, c := range []struct {
		what  string
		db    database
		token string
		host  string
	}{
		{"none", db, "", at(standby)},
		{"a valid one", db, valid, at(primary)},
		{"one of an older key", rotated, valid, at(primary)},
		{"a forged one", db, "AAAA" + valid[4:], at(standby)},
		{"another forged one", db, valid[:len(valid)-4] + "AAAA", at(standby)},
		{"half of one", db, valid[:25], at(standby)},
		{"what is no token", db, "%%%", at(standby)},
	} {
		host, err := where(dbscope.ReadYourWrites(t.Context(), c.token), c.db, dbscope.ReadOnly())
		if err != nil || host != c.host {
			t.Errorf("with %s it read on %s, %v", c.what, host, err)
		}
	}
}

// What synchronous_commit = off has committed reaches replicas only once it is
// written, by a process that sleeps for ten seconds here.
func TestAClientReadsItsOwnWritesThatAreNotDurableYet(t *testing.T) {
	primary := pgtest.Start(t, "synchronous_commit = off", "wal_writer_delay = 10000ms")
	standby := primary.Standby(t)
	nodes := cluster.New(cluster.List(hostsOf(primary, standby)...))
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			db := open(dsn, dbscope.Hosts(nodes))
			defer func() { ok(t, db.Close()) }()
			ok(t, write(t.Context(), db, "DROP TABLE IF EXISTS own"))
			ok(t, write(t.Context(), db, "CREATE TABLE own (id int PRIMARY KEY, n int)"))
			ok(t, write(t.Context(), db, "INSERT INTO own VALUES (1, 0)"))
			primary.Query(t, primary.DSN("postgres"), "SET synchronous_commit = on; CREATE TABLE durable_"+name+" ()")
			fresh(t, db, nodes, 1)
			for n := 1; n <= 20; n++ {
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				ok(t, write(ctx, db, "UPDATE own SET n = $1", n))
				if got, replica := readOwn(t, ctx, db); got != n {
					t.Errorf("it reads %d after it wrote %d, on a replica: %v", got, n, replica)
				}
			}
		})
	}
}
