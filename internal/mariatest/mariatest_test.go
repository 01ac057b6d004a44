package mariatest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child/childtest"
	"github.com/dbscope/dbscope/internal/mariatest"
)

func TestMain(m *testing.M) {
	childtest.EndBadly(func() (*mariatest.Server, error) { return mariatest.NewServer() })
	os.Exit(mariatest.Main(m).Run())
}

func TestServers(t *testing.T) {
	childtest.Suite[*mariatest.Server]{
		Start:           mariatest.Start,
		Shared:          mariatest.Shared,
		RemoveAbandoned: mariatest.RemoveAbandoned,
		Database:        databaseOf,
		Left:            "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'test%'",
		Sleep:           "SELECT sleep(60)",
		Sleeping:        "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT sleep(60)' AND db = database()",
	}.Run(t)
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

func TestTheUserOfTheDSNIsNoAdministrator(t *testing.T) {
	s := mariatest.Shared(t)
	grants := s.Query(t, "", "SHOW GRANTS FOR app@'%'")
	for _, grant := range []string{"SUPER", "READ_ONLY ADMIN", "ALL PRIVILEGES ON *.*"} {
		if strings.Contains(grants, grant) {
			t.Errorf("it has %s:\n%s", grant, grants)
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

func databaseOf(t testing.TB, s *mariatest.Server, dsn string) string {
	t.Helper()
	name, found := strings.CutPrefix(dsn, s.DSN(""))
	if !found || !strings.HasPrefix(name, "test") {
		t.Fatalf("DSN %q", dsn)
	}
	return name
}
