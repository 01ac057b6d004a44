package stage

import (
	"fmt"

	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// database is a server with the table of the subjects.
type database struct {
	dsn    string
	addr   string // as it stands in dsn
	dir    string // in which its processes run
	remove func() error
}

// startPostgres turns off what would work for one subject and be paid by
// another.
func startPostgres() (*database, error) {
	server, err := pgtest.StartFor("max_connections = 500", "autovacuum = off", "shared_buffers = 128MB",
		"checkpoint_timeout = 1d", "max_wal_size = 8GB", "log_min_messages = error")
	if err != nil {
		return nil, err
	}
	db := &database{dsn: server.DSN("postgres"), addr: fmt.Sprintf("127.0.0.1:%d", server.Port()), dir: server.Dir(), remove: server.Remove}
	if _, err := pgtest.Psql(db.dsn, subject.Schema(subject.Postgres)); err != nil {
		_ = server.Remove()
		return nil, err
	}
	return db, nil
}
