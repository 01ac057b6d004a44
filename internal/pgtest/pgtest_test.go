package pgtest_test

import (
	"os"
	"testing"

	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/child/childtest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	childtest.EndBadly(func() (*pgtest.Server, error) {
		s, err := pgtest.NewServer()
		if err == nil { // a backend that does not look whether its server is there
			go func() { _ = s.TryQuery(s.DSN("postgres"), "do 'begin loop end loop; end'") }()
		}
		return s, err
	})
	os.Exit(pgtest.Main(m).Run())
}

func TestServers(t *testing.T) {
	childtest.Suite[*pgtest.Server]{
		Start:           pgtest.Start,
		Shared:          pgtest.Shared,
		RemoveAbandoned: pgtest.RemoveAbandoned,
		Database:        func(_ testing.TB, _ *pgtest.Server, dsn string) string { return dsn },
		Admin:           pgtest.Shared(t).DSN("postgres"),
		Left:            "select count(*) from pg_database where datname like 'test%'",
		Sleep:           "select pg_sleep(60)",
		Sleeping:        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()",
	}.Run(t)
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

func TestSettingsOfTheCallerWin(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, "max_connections = 20", "wal_level = logical")
	if got := s.Query(t, s.DSN("postgres"), "select current_setting('max_connections'), current_setting('wal_level')"); got != "20|logical" {
		t.Errorf("got %q", got)
	}
}

func TestKillEndsABusyBackend(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	dsn := s.DSN("postgres")
	go func() { _ = s.TryQuery(dsn, "do 'begin loop end loop; end'") }()
	check.Eventually(t, "a busy backend", func() bool {
		return s.Query(t, dsn, "select count(*) from pg_stat_activity where query like 'do %' and state = 'active'") == "1"
	})
	s.Kill()
	s.Restart(t)
	s.Query(t, dsn, "select 1")
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
	check.Eventually(t, "the row on the standby", func() bool {
		return standby.Query(t, dsn, "select count(*) from pg_class where relname = 't'") == "1" &&
			standby.Query(t, dsn, "select id from t") == "7"
	})
}
