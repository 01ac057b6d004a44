package idempotent

import (
	"fmt"
	"time"
)

// The statements that create the table, for migrations. They do nothing where it is
// there already.
const (
	PostgreSQLTable = `CREATE TABLE IF NOT EXISTS dbscope_requests (
	id         BYTEA  PRIMARY KEY, -- a hash of the principal and the key
	request    BYTEA  NOT NULL,    -- a hash
	response   BYTEA,
	created_at BIGINT NOT NULL     -- seconds since 1970
);
CREATE INDEX IF NOT EXISTS dbscope_requests_created_at ON dbscope_requests (created_at)`

	// MySQLTable is for MariaDB, too.
	MySQLTable = `CREATE TABLE IF NOT EXISTS dbscope_requests (
	id         BINARY(32) PRIMARY KEY, -- a hash of the principal and the key
	request    BINARY(32) NOT NULL,    -- a hash
	response   LONGBLOB,
	created_at BIGINT     NOT NULL,    -- seconds since 1970
	INDEX dbscope_requests_created_at (created_at)
) ENGINE = InnoDB`

	SQLiteTable = `CREATE TABLE IF NOT EXISTS dbscope_requests (
	id         BLOB    PRIMARY KEY NOT NULL, -- a hash of the principal and the key
	request    BLOB    NOT NULL,             -- a hash
	response   BLOB,
	created_at INTEGER NOT NULL              -- seconds since 1970
);
CREATE INDEX IF NOT EXISTS dbscope_requests_created_at ON dbscope_requests (created_at)`
)

// dialect is how one database is asked for a key. A row without a response is that of a
// unit which is under way: none is ever committed.
type dialect struct {
	claim   string // inserts the row (id, request, created_at), and fails at nothing that is there already
	waiting string // claim with a bound for its wait: where %d stands, in units of unit
	unit    time.Duration
	find    string // the row of id, as committed by now
	store   string // puts a response into the unit's own row of an id
	forget  string // deletes the unit's own row of id
	purge   string // deletes rows from before a time, a number of them at most
}

var postgres = dialect{
	claim: "INSERT INTO dbscope_requests (id, request, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
	// The bound holds for this statement alone, also where one of the handler's has
	// to have it as it was. Where the row is there already, no handler is called.
	waiting: "WITH was AS (SELECT set_config('dbscope.lock_timeout', current_setting('lock_timeout'), true)), " +
		"bound AS (SELECT set_config('lock_timeout', '%d', true) FROM was) " +
		"INSERT INTO dbscope_requests (id, request, created_at) SELECT $1::bytea, $2::bytea, $3::bigint FROM bound " +
		"ON CONFLICT (id) DO NOTHING RETURNING set_config('lock_timeout', current_setting('dbscope.lock_timeout'), true)",
	unit:   time.Millisecond,
	find:   "SELECT request, response FROM dbscope_requests WHERE id = $1",
	store:  "UPDATE dbscope_requests SET response = $1 WHERE id = $2 AND response IS NULL",
	forget: "DELETE FROM dbscope_requests WHERE id = $1 AND response IS NULL",
	purge:  "DELETE FROM dbscope_requests WHERE id IN (SELECT id FROM dbscope_requests WHERE created_at < $1 LIMIT $2)",
}

// SQLite understands PostgreSQL's statements, except for those of its lock timeout.
var sqlite = dialect{
	claim: postgres.claim, find: postgres.find, store: postgres.store, forget: postgres.forget, purge: postgres.purge,
}

var mysql = dialect{
	claim: "INSERT IGNORE INTO dbscope_requests (id, request, created_at) VALUES (?, ?, ?)",
	// As committed by now, and not as it was when the unit has first read something.
	find:   "SELECT request, response FROM dbscope_requests WHERE id = ? LOCK IN SHARE MODE",
	store:  "UPDATE dbscope_requests SET response = ? WHERE id = ? AND response IS NULL",
	forget: "DELETE FROM dbscope_requests WHERE id = ? AND response IS NULL",
	purge:  "DELETE FROM dbscope_requests WHERE created_at < ? LIMIT ?",
}

var mariadb = dialect{
	claim: mysql.claim, waiting: "SET STATEMENT innodb_lock_wait_timeout = %d FOR " + mysql.claim, unit: time.Second,
	find: mysql.find, store: mysql.store, forget: mysql.forget, purge: mysql.purge,
}

// claimWithin is claim, waiting no longer than so long where that can be said, and
// where it is more than 0.
func (d *dialect) claimWithin(wait time.Duration) string {
	if d.waiting == "" || wait <= 0 {
		return d.claim
	}
	return fmt.Sprintf(d.waiting, (wait+d.unit-1)/d.unit)
}
