package mariatest_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/mariatest"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(endVariable); how != "" {
		endBadly(how) // in a child process of TestServerDoesNotOutliveItsTestBinary
	}
	os.Exit(mariatest.Main(m).Run())
}

func TestServerAnswers(t *testing.T) {
	s := mariatest.Shared(t)
	for query, want := range map[string]string{
		"SELECT 1":                                "1",
		"SELECT version() LIKE '%MariaDB%'":       "1",
		"SELECT @@character_set_server":           "utf8mb4",
		"SELECT @@time_zone, @@read_only":         "+00:00|0",
		"SELECT @@innodb_flush_log_at_trx_commit": "1",
		"SELECT @@log_bin, @@skip_name_resolve":   "1|1",
	} {
		if got := s.Query(t, "", query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

func TestSharedIsOneServer(t *testing.T) {
	if a, b := mariatest.Shared(t), mariatest.Shared(t); a != b {
		t.Error("two servers")
	}
}

func TestSettingsOfTheCallerWin(t *testing.T) {
	t.Parallel()
	s := mariatest.Start(t, "max_connections = 20", "innodb_rollback_on_timeout = ON")
	if got := s.Query(t, "", "SELECT @@max_connections, @@innodb_rollback_on_timeout"); got != "20|1" {
		t.Errorf("got %q", got)
	}
}

func TestAWrongSettingFailsTheStartWithTheLog(t *testing.T) {
	t.Parallel()
	_, err := mariatest.NewServer("no_such_setting = 1")
	if err == nil || !strings.Contains(err.Error(), "unknown variable 'no_such_setting=1'") {
		t.Errorf("the error is %v", err)
	}
}

func TestEachTestHasItsOwnEmptyDatabase(t *testing.T) {
	s := mariatest.Shared(t)
	seen := map[string]bool{}
	for range 3 {
		t.Run("", func(t *testing.T) {
			dsn := s.CreateDatabase(t)
			if seen[dsn] {
				t.Errorf("%s was used before", dsn)
			}
			seen[dsn] = true
			s.Query(t, databaseOf(t, s, dsn), "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
		})
	}
	const left = "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'test%'"
	if got := s.Query(t, "", left); got != "0" {
		t.Errorf("%s databases were not dropped", got)
	}
}

func TestDatabaseIsDroppedThoughATransactionIsOpen(t *testing.T) {
	s := mariatest.Shared(t)
	done := make(chan struct{})
	t.Run("", func(t *testing.T) {
		db := databaseOf(t, s, s.CreateDatabase(t))
		s.Query(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
		go func() {
			defer close(done)
			_ = s.TryQuery(db, "BEGIN; INSERT INTO orders VALUES (1); SELECT sleep(60)")
		}()
		waitUntil(t, func() bool { return sleepers(t, s, db) == "1" })
	})
	<-done
}

func TestTheUserOfTheDSNIsNoAdministrator(t *testing.T) {
	s := mariatest.Shared(t)
	grants := s.Query(t, "", "SHOW GRANTS FOR app@'%'")
	for _, grant := range []string{"SUPER", "READ_ONLY ADMIN", "ALL PRIVILEGES ON *.*"} {
		if strings.Contains(grants, grant) {
			t.Errorf("it has %s:\n%s", grant, grants)
		}
	}
}

func TestCommittedRowsSurviveKill(t *testing.T) {
	t.Parallel()
	s := mariatest.Start(t)
	db := databaseOf(t, s, s.CreateDatabase(t))
	s.Query(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1), (2)")
	broken := make(chan error)
	go func() { broken <- s.TryQuery(db, "BEGIN; INSERT INTO orders VALUES (3); SELECT sleep(60)") }()
	waitUntil(t, func() bool { return sleepers(t, s, db) == "1" })
	port := s.Port()

	s.Kill()
	s.Kill() // does nothing
	if err := <-broken; err == nil {
		t.Error("a client did not notice")
	}
	if answers(port) {
		t.Error("a killed server accepts connections")
	}

	s.Restart(t)
	if s.Port() != port {
		t.Errorf("port %d, was %d", s.Port(), port)
	}
	if got := s.Query(t, db, "SELECT id FROM orders ORDER BY id"); got != "1\n2" {
		t.Errorf("got rows %q", got)
	}
}

func TestRestartOfARunningServerKeepsItsData(t *testing.T) {
	t.Parallel()
	s := mariatest.Start(t)
	db := databaseOf(t, s, s.CreateDatabase(t))
	s.Query(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1)")
	s.Restart(t)
	s.Stop()
	s.Stop() // does nothing
	s.Restart(t)
	if got := s.Query(t, db, "SELECT id FROM orders"); got != "1" {
		t.Errorf("got rows %q", got)
	}
}

func TestNothingIsLeftWhenTheTestEnds(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*mariatest.Server){
		"running": func(*mariatest.Server) {},
		"stopped": (*mariatest.Server).Stop,
		"killed":  (*mariatest.Server).Kill,
	} {
		var dir string
		var port int
		t.Run(name, func(t *testing.T) {
			s := mariatest.Start(t)
			dir, port = s.Dir(), s.Port()
			s.CreateDatabase(t)
			down(s)
		})
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: directory %s is still there (%v)", name, dir, err)
		}
		if answers(port) {
			t.Errorf("%s: the server still runs", name)
		}
	}
}

func TestAReplicaShowsWhatItsPrimaryCommittedUnlessItIsPaused(t *testing.T) {
	t.Parallel()
	primary := mariatest.Start(t)
	db := databaseOf(t, primary, primary.CreateDatabase(t))
	primary.Query(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1)")
	replica := primary.Replica(t, "max_connections = 20")
	stored := func() string { return replica.Query(t, db, "SELECT group_concat(id ORDER BY id) FROM orders") }
	if got := replica.Query(t, "", "SELECT @@read_only, @@max_connections") + " " + stored(); got != "1|20 1" {
		t.Errorf("the replica says %q", got)
	}

	replica.PauseReplay(t)
	primary.Query(t, db, "INSERT INTO orders VALUES (2)")
	time.Sleep(200 * time.Millisecond)
	if got := stored(); got != "1" {
		t.Errorf("a paused replica shows %q", got)
	}
	replica.ResumeReplay(t)
	replica.CatchUp(t)
	if got := stored(); got != "1,2" {
		t.Errorf("a replica that caught up shows %q", got)
	}

	replica.Kill()
	primary.Query(t, db, "INSERT INTO orders VALUES (3)")
	replica.Restart(t)
	replica.CatchUp(t)
	if got := stored(); got != "1,2,3" {
		t.Errorf("a replica that was killed shows %q", got)
	}

	primary.Kill()
	primary.Restart(t)
	primary.Query(t, db, "INSERT INTO orders VALUES (4)")
	replica.CatchUp(t)
	if got := stored(); got != "1,2,3,4" {
		t.Errorf("the replica of a primary that was killed shows %q", got)
	}
}

func databaseOf(t *testing.T, s *mariatest.Server, dsn string) string {
	t.Helper()
	name, found := strings.CutPrefix(dsn, s.DSN(""))
	if !found || !strings.HasPrefix(name, "test") {
		t.Fatalf("DSN %q", dsn)
	}
	return name
}

func sleepers(t *testing.T, s *mariatest.Server, db string) string {
	return s.Query(t, "", "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT sleep(60)' AND db = '"+db+"'")
}

func answers(port int) bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// endVariable makes this test binary start a server and end as it says.
const endVariable = "DBSCOPE_MARIATEST_END"

// endBadly starts a server that nothing cleans up after.
func endBadly(how string) {
	s, err := mariatest.NewServer()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Dir())
	switch how {
	case "exits":
		os.Exit(3)
	case "panics":
		go func() { panic("on purpose") }()
	}
	select {} // waits for the kill, or the panic
}
