package stage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// database is a server with the table of the subjects.
type database struct {
	version string
	dsn     string
	addr    string // as it stands in dsn
	dir     string // in which its processes run
	remove  func() error
}

// start turns off what would work for one subject and be paid by another.
func start(db string, durable bool) (*database, error) {
	switch db {
	case subject.Postgres:
		return startPostgres(durable)
	case subject.MariaDB:
		return startMariaDB(durable)
	}
	return nil, fmt.Errorf("stage: there is no database %q, but %s and %s", db, subject.Postgres, subject.MariaDB)
}

func startPostgres(durable bool) (*database, error) {
	server, err := pgtest.StartFor("fsync = "+onOff(durable), "max_connections = 1000", "autovacuum = off", "shared_buffers = 128MB",
		"checkpoint_timeout = 1d", "max_wal_size = 8GB", "log_min_messages = error")
	if err != nil {
		return nil, err
	}
	dsn := server.DSN("postgres")
	version, err := pgtest.Psql(dsn, "show server_version")
	if err == nil {
		_, err = pgtest.Psql(dsn, subject.Schema(subject.Postgres))
	}
	if err != nil {
		return nil, errors.Join(err, server.Remove())
	}
	version, _, _ = strings.Cut(version, " ")
	return &database{"PostgreSQL " + version, dsn, fmt.Sprintf("127.0.0.1:%d", server.Port()), server.Dir(), server.Remove}, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func startMariaDB(durable bool) (*database, error) {
	flush := "innodb_flush_log_at_trx_commit = 2" // to the system, not to the disk
	if durable {
		flush = "innodb_flush_log_at_trx_commit = 1"
	}
	server, err := mariatest.StartFor(flush, "max_connections = 1000", "skip_log_bin", "innodb_buffer_pool_size = 128M")
	if err != nil {
		return nil, err
	}
	const name = "test_bench"
	version, err := server.Execute("", "CREATE DATABASE "+name+"; SELECT VERSION()")
	if err == nil {
		_, err = server.Execute(name, subject.Schema(subject.MariaDB))
	}
	if err != nil {
		return nil, errors.Join(err, server.Remove())
	}
	version, _, _ = strings.Cut(version, "-")
	return &database{"MariaDB " + version, server.DSN(name), fmt.Sprintf("127.0.0.1:%d", server.Port()), server.Dir(), server.Remove}, nil
}
