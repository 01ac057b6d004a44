package pgbouncer_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

func TestAQueryPasses(t *testing.T) {
	server := pgtest.Shared(t)
	direct := server.CreateDatabase(t)
	pooled := pgbouncer.Start(t, server).DSN(direct)
	server.Query(t, pooled, "create table orders (id int); insert into orders values (1)")
	for _, dsn := range []string{direct, pooled} {
		if got := server.Query(t, dsn, "select id, current_user from orders"); got != "1|postgres" {
			t.Errorf("%s: got %q", dsn, got)
		}
	}
}

func TestTransactionsArePooledInFewConnections(t *testing.T) {
	server := pgtest.Shared(t)
	bouncer := pgbouncer.Start(t, server)
	// Columns of "show config" differ between versions.
	config := "\n" + server.Query(t, bouncer.DSN(server.DSN("pgbouncer")), "show config")
	for _, want := range []string{"\npool_mode|transaction|", "\ndefault_pool_size|4|", "\nserver_login_retry|0.2|"} {
		if !strings.Contains(config, want) {
			t.Errorf("the configuration has no %q:\n%s", want, config)
		}
	}
}

func TestClientsTakeTurnsOnOneConnectionTransactionByTransaction(t *testing.T) {
	server := pgtest.Shared(t)
	direct := server.CreateDatabase(t)
	server.Query(t, direct, "create table log (line text)")
	pooled := pgbouncer.Start(t, server, "default_pool_size = 1").DSN(direct)
	const whoami = "select pg_backend_pid()"
	a, b := connect(t, pooled), connect(t, pooled)
	backend := a.query(t, whoami)
	for range 3 {
		a.query(t, "begin; insert into log values ('a')")
		done := make(chan string, 1)
		go func() {
			backend, err := b.try("begin; insert into log values ('b'); " + whoami)
			if err != nil {
				t.Error(err)
			}
			done <- backend
		}()
		select {
		case <-done:
			t.Fatal("b did not wait for a's transaction to end")
		case <-time.After(50 * time.Millisecond):
		}
		if got := a.query(t, whoami); got != backend {
			t.Errorf("a is on backend %s, was on %s", got, backend)
		}
		a.query(t, "commit") // a stays connected
		if got := <-done; got != backend {
			t.Errorf("b is on backend %s, a is on %s", got, backend)
		}
		b.query(t, "commit")
	}
	if got := server.Query(t, direct, "select string_agg(line, '') from log"); got != "ababab" {
		t.Errorf("the order of the inserts is %q", got)
	}
}

func TestARestartedServerIsFoundAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	pooled := pgbouncer.Start(t, server).DSN(server.DSN("postgres"))
	server.Query(t, pooled, "select 1")
	server.Kill()
	server.Restart(t)
	server.Query(t, pooled, "select 1")
}

func TestNothingIsLeftWhenTheTestEnds(t *testing.T) {
	server := pgtest.Shared(t)
	var dsn string
	t.Run("", func(t *testing.T) {
		dsn = pgbouncer.Start(t, server).DSN(server.DSN("postgres"))
		connect(t, dsn).query(t, "begin") // it does not wait for this one
	})
	if listens(t, dsn) {
		t.Error("PgBouncer still runs")
	}
}

func TestADSNKeepsAllButTheHost(t *testing.T) {
	bouncer := pgbouncer.Start(t, pgtest.Shared(t))
	got := bouncer.DSN("postgres://ada:x%20y@127.0.0.1:1/shop?sslmode=disable")
	before, after, found := strings.Cut(got, "@127.0.0.1:")
	if !found || before != "postgres://ada:x%20y" || !strings.HasSuffix(after, "/shop?sslmode=disable") || strings.HasPrefix(after, "1/") {
		t.Errorf("got %s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a DSN that is no URL is accepted")
		}
	}()
	bouncer.DSN("host=127.0.0.1 dbname=shop")
}
