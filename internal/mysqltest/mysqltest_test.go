package mysqltest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child/childtest"
	"github.com/dbscope/dbscope/internal/mysqltest"
)

func TestMain(m *testing.M) {
	childtest.EndBadly(func() (*mysqltest.Server, error) { return mysqltest.NewServer() })
	os.Exit(mysqltest.Main(m).Run())
}

func TestServers(t *testing.T) {
	mysqltest.Have(t)
	childtest.Suite[*mysqltest.Server]{
		Start:           mysqltest.Start,
		Shared:          mysqltest.Shared,
		RemoveAbandoned: mysqltest.RemoveAbandoned,
		Database:        databaseOf,
		Left:            "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'test%'",
		Sleep:           "SELECT sleep(60)",
		Sleeping:        "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT sleep(60)' AND db = database()",
	}.Run(t)
}

func TestServerAnswers(t *testing.T) {
	s := mysqltest.Shared(t)
	for query, want := range map[string]string{
		"SELECT 1":                                "1",
		"SELECT version() LIKE '%MariaDB%'":       "0",
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
	s := mysqltest.Start(t, "max_connections = 20", "innodb_rollback_on_timeout = ON")
	if got := s.Query(t, "", "SELECT @@max_connections, @@innodb_rollback_on_timeout"); got != "20|1" {
		t.Errorf("got %q", got)
	}
}

func TestAWrongSettingFailsTheStartWithTheLog(t *testing.T) {
	t.Parallel()
	mysqltest.Have(t)
	_, err := mysqltest.NewServer("no_such_setting = 1")
	if err == nil || !strings.Contains(err.Error(), "unknown variable 'no_such_setting=1'") {
		t.Errorf("the error is %v", err)
	}
}

func TestTheUserOfTheDSNIsNoAdministrator(t *testing.T) {
	s := mysqltest.Shared(t)
	grants := s.Query(t, "", "SHOW GRANTS FOR app@'%'")
	for _, grant := range []string{"SUPER", "READ_ONLY", "ALL PRIVILEGES ON *.*"} {
		if strings.Contains(grants, grant) {
			t.Errorf("it has %s:\n%s", grant, grants)
		}
	}
}

func databaseOf(t testing.TB, s *mysqltest.Server, dsn string) string {
	t.Helper()
	name, found := strings.CutPrefix(dsn, s.DSN(""))
	if !found || !strings.HasPrefix(name, "test") {
		t.Fatalf("DSN %q", dsn)
	}
	return name
}
