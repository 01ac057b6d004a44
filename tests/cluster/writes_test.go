package cluster_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var key = bytes.Repeat([]byte("k"), 32)

// replicated is a primary with two replicas.
type replicated struct {
	hosts         []string
	options       []cluster.Option
	open          func(opts ...dbscope.DBOption) database
	prepare       func(statements string)
	update, read  string // read tells the number, and 1 on a replica
	pause, resume []func()
}

func onPostgres(t *testing.T, primary *pgtest.Server, open func(string, ...dbscope.DBOption) database, standbys ...*pgtest.Server) replicated {
	r := replicated{
		hosts:   append(hostsOf(primary), hostsOf(standbys...)...),
		open:    func(opts ...dbscope.DBOption) database { return open(dsn, opts...) },
		prepare: func(statements string) { primary.Query(t, primary.DSN("postgres"), statements) },
		update:  "UPDATE own SET n = $1",
		read:    "SELECT n || ' ' || pg_is_in_recovery()::int FROM own",
	}
	for _, s := range standbys {
		r.pause = append(r.pause, func() { s.Query(t, s.DSN("postgres"), "SELECT pg_wal_replay_pause()") })
		r.resume = append(r.resume, func() { s.Query(t, s.DSN("postgres"), "SELECT pg_wal_replay_resume()") })
	}
	return r
}

func onMariaDB(t *testing.T, primary *mariatest.Server, replicas ...*mariatest.Server) replicated {
	host := func(s *mariatest.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }
	dsn := primary.CreateDatabase(t)
	name := dsn[strings.LastIndexByte(dsn, '/')+1:]
	r := replicated{
		hosts:   []string{host(primary)},
		options: []cluster.Option{cluster.MariaDB()},
		open: func(opts ...dbscope.DBOption) database {
			return overSQL{sqlscope.Open("mysql", strings.ReplaceAll(dsn, host(primary), "{host}"), opts...)}
		},
		prepare: func(statements string) { primary.Query(t, name, statements) },
		update:  "UPDATE own SET n = ?",
		read:    "SELECT CONCAT(n, ' ', IF(@@read_only, 1, 0)) FROM own",
	}
	for _, s := range replicas {
		r.hosts = append(r.hosts, host(s))
		r.pause = append(r.pause, func() { s.PauseReplay(t) })
		r.resume = append(r.resume, func() { s.ResumeReplay(t) })
	}
	return r
}

// A client writes, and reads with the token of its write, in another process
// as it were, while replicas stop replaying and go on at random. With the token
// it sees what it wrote; without, now and then it does not.
func TestAClientReadsItsOwnWrites(t *testing.T) {
	primary := pgtest.Start(t)
	one, two := primary.Standby(t), primary.Standby(t)
	for name, open := range adapters {
		t.Run("PostgreSQL by "+name, func(t *testing.T) {
			readOwnWrites(t, onPostgres(t, primary, open, one, two))
		})
	}
	t.Run("MariaDB", func(t *testing.T) {
		primary := mariatest.Start(t)
		readOwnWrites(t, onMariaDB(t, primary, primary.Replica(t), primary.Replica(t)))
	})
}

func readOwnWrites(t *testing.T, on replicated) {
	pairs := 500
	if os.Getenv("DBSCOPE_LONG") != "" {
		pairs = 10_000
	}
	options := append(on.options, cluster.SignedBy(key), cluster.PollEvery(50*time.Millisecond))
	nodes := cluster.New(cluster.List(on.hosts...), options...)
	writer := on.open(dbscope.Router(cluster.New(cluster.List(on.hosts...), options...)))
	reader := on.open(dbscope.Router(nodes))
	defer func() { ok(t, errors.Join(writer.Close(), reader.Close())) }()
	on.prepare("DROP TABLE IF EXISTS own; CREATE TABLE own (n int); INSERT INTO own VALUES (0)")
	fresh(t, nodes, len(on.pause), reader)
	stop := pauseAtRandom(t, on)
	defer stop()
	stale, staleWithout, onReplica := 0, 0, 0
	for n := 1; n <= pairs; n++ {
		level := []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead}[n%2]
		ctx := dbscope.ReadYourWrites(t.Context(), "")
		ok(t, write(ctx, writer, on.update, n))
		token := dbscope.WritesToken(ctx)
		got, replica, err := readOwn(dbscope.ReadYourWrites(t.Context(), token), reader, on.read, dbscope.Isolation(level))
		ok(t, err)
		if got != n {
			stale++
		}
		onReplica += replica
		got, _, err = readOwn(t.Context(), reader, on.read)
		ok(t, err)
		if got != n {
			staleWithout++
		}
	}
	t.Logf("%d pairs: %d stale with the token, %d without; %d %% read on replicas", pairs, stale, staleWithout, 100*onReplica/pairs)
	if stale > 0 || staleWithout == 0 || onReplica == 0 {
		t.Error("that is not as it should be")
	}
}

func readOwn(ctx context.Context, db database, query string, opts ...dbscope.Option) (n, replica int, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		text, err := db.text(ctx, query)
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(text, &n, &replica)
		return err
	}, append(opts, dbscope.ReadOnly())...)
	return n, replica, err
}

// pauseAtRandom makes replicas stop replaying and go on, until it is stopped.
func pauseAtRandom(t *testing.T, on replicated) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			i := rand.IntN(len(on.pause))
			on.pause[i]()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			on.resume[i]()
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
	db := adapters["pgxscope"](dsn, dbscope.Router(nodes))
	defer func() { ok(t, db.Close()) }()
	fresh(t, nodes, 1, db)
	other := cluster.New(list, cluster.SignedBy(bytes.Repeat([]byte("o"), 32), key))
	rotated := adapters["pgxscope"](dsn, dbscope.Router(other))
	defer func() { ok(t, rotated.Close()) }()
	fresh(t, other, 1, rotated)
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
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			ok(t, write(t.Context(), db, "DROP TABLE IF EXISTS own"))
			ok(t, write(t.Context(), db, "CREATE TABLE own (id int PRIMARY KEY, n int)"))
			ok(t, write(t.Context(), db, "INSERT INTO own VALUES (1, 0)"))
			primary.Query(t, primary.DSN("postgres"), "SET synchronous_commit = on; CREATE TABLE durable_"+name+" ()")
			fresh(t, nodes, 1, db)
			on := onPostgres(t, primary, open, standby)
			for n := 1; n <= 20; n++ {
				ctx := dbscope.ReadYourWrites(t.Context(), "")
				ok(t, write(ctx, db, "UPDATE own SET n = $1", n))
				if got, replica, err := readOwn(ctx, db, on.read); err != nil || got != n {
					t.Errorf("it reads %d after it wrote %d, on %d replica: %v", got, n, replica, err)
				}
			}
		})
	}
}
