package pgtest_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(endVariable); how != "" {
		endBadly(how) // in a child process of TestServerDoesNotOutliveItsTestBinary
	}
	os.Exit(pgtest.Main(m).Run())
}

func TestServerAnswersOnItsDSN(t *testing.T) {
	s := pgtest.Shared(t)
	for query, want := range map[string]string{
		"select 1":             "1",
		"show fsync":           "on",
		"show server_encoding": "UTF8",
		"show timezone":        "UTC",
		"select current_user":  "postgres",
		"select inet_server_addr(), inet_server_port() > 0": "127.0.0.1|t",
	} {
		if got := s.Query(t, s.DSN("postgres"), query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

func TestSharedIsOneServer(t *testing.T) {
	if a, b := pgtest.Shared(t), pgtest.Shared(t); a != b {
		t.Error("two servers")
	}
}

func TestSettingsOfTheCallerWin(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, "max_connections = 20", "wal_level = logical")
	if got := s.Query(t, s.DSN("postgres"), "select current_setting('max_connections'), current_setting('wal_level')"); got != "20|logical" {
		t.Errorf("got %q", got)
	}
}

func TestEachTestHasItsOwnEmptyDatabase(t *testing.T) {
	s := pgtest.Shared(t)
	seen := map[string]bool{}
	for range 3 {
		t.Run("", func(t *testing.T) {
			dsn := s.CreateDatabase(t)
			if seen[dsn] {
				t.Errorf("%s was used before", dsn)
			}
			seen[dsn] = true
			s.Query(t, dsn, "create table orders (id int)")
		})
	}
	const left = "select count(*) from pg_database where datname like 'test%'"
	if got := s.Query(t, s.DSN("postgres"), left); got != "0" {
		t.Errorf("%s databases were not dropped", got)
	}
}

func TestDatabaseIsDroppedThoughAConnectionIsOpen(t *testing.T) {
	s := pgtest.Shared(t)
	done := make(chan struct{})
	t.Run("", func(t *testing.T) {
		dsn := s.CreateDatabase(t)
		go func() {
			defer close(done)
			_ = s.TryQuery(dsn, "select pg_sleep(60)")
		}()
		waitUntil(t, func() bool {
			return s.Query(t, dsn, "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'") == "1"
		})
	})
	<-done
}

func TestCommittedRowsSurviveKill(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	dsn := s.CreateDatabase(t)
	s.Query(t, dsn, "create table orders (id int); insert into orders values (1), (2)")
	broken := make(chan error)
	go func() {
		broken <- s.TryQuery(dsn, "begin; insert into orders values (3); select pg_sleep(60)")
	}()
	waitUntil(t, func() bool {
		return s.Query(t, dsn, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1"
	})
	port := s.Port()

	s.Kill()
	s.Kill() // does nothing
	if err := <-broken; err == nil {
		t.Error("a client did not notice")
	}
	if conn, err := net.Dial("tcp", hostOf(t, dsn)); err == nil {
		_ = conn.Close()
		t.Error("a killed server accepts connections")
	}

	s.Restart(t)
	if s.Port() != port {
		t.Errorf("port %d, was %d", s.Port(), port)
	}
	if got := s.Query(t, dsn, "select id from orders order by id"); got != "1\n2" {
		t.Errorf("got rows %q", got)
	}
}

func TestKillEndsABusyBackend(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	dsn := s.DSN("postgres")
	go func() { _ = s.TryQuery(dsn, "do 'begin loop end loop; end'") }()
	waitUntil(t, func() bool {
		return s.Query(t, dsn, "select count(*) from pg_stat_activity where query like 'do %' and state = 'active'") == "1"
	})
	s.Kill()
	s.Restart(t)
	s.Query(t, dsn, "select 1")
}

func TestRestartOfARunningServerKeepsItsData(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	dsn := s.CreateDatabase(t)
	s.Query(t, dsn, "create table orders (id int); insert into orders values (1)")
	s.Restart(t)
	s.Stop()
	s.Stop() // does nothing
	s.Restart(t)
	if got := s.Query(t, dsn, "select id from orders"); got != "1" {
		t.Errorf("got rows %q", got)
	}
}

func TestNothingIsLeftWhenTheTestEnds(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*pgtest.Server){
		"running": func(*pgtest.Server) {},
		"stopped": (*pgtest.Server).Stop,
		"killed":  (*pgtest.Server).Kill,
	} {
		var dir, host string
		t.Run(name, func(t *testing.T) {
			s := pgtest.Start(t)
			dir, host = s.Dir(), hostOf(t, s.CreateDatabase(t))
			down(s)
		})
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: directory %s is still there (%v)", name, dir, err)
		}
		if conn, err := net.Dial("tcp", host); err == nil {
			_ = conn.Close()
			t.Errorf("%s: the server still runs", name)
		}
	}
}

// endVariable makes this test binary start a server and end as it says.
const endVariable = "DBSCOPE_PGTEST_END"

// endBadly starts a server that nothing cleans up after.
func endBadly(how string) {
	s, err := pgtest.NewServer()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { _ = s.TryQuery(s.DSN("postgres"), "do 'begin loop end loop; end'") }()
	fmt.Println(s.Dir())
	switch how {
	case "exits":
		os.Exit(3)
	case "panics":
		go func() { panic("on purpose") }()
	}
	select {} // waits for the kill, or the panic
}

func hostOf(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Host, "127.0.0.1:") {
		t.Fatalf("DSN %q: %v", dsn, err)
	}
	return u.Host
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func TestAStandbyShowsWhatItsPrimaryCommitted(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, "max_connections = 20")
	standby := primary.Standby(t, "hot_standby_feedback = on")
	dsn := standby.DSN("postgres")
	if got := standby.Query(t, dsn, "select pg_is_in_recovery(), current_setting('max_connections'), current_setting('hot_standby_feedback')"); got != "t|20|on" {
		t.Errorf("the standby says %q", got)
	}
	primary.Query(t, primary.DSN("postgres"), "create table t (id integer); insert into t values (7)")
	waitUntil(t, func() bool {
		return standby.Query(t, dsn, "select count(*) from pg_class where relname = 't'") == "1" &&
			standby.Query(t, dsn, "select id from t") == "7"
	})
}
