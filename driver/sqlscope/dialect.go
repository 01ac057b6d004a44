package sqlscope

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/dbscope/dbscope/driver"
)

// dialect is what the adapter has to know of a database: what a failure does
// to a transaction.
type dialect int32

const (
	undetected dialect = iota
	unknown
	postgres // and those that speak its protocol
	sqlite
	mariadb
)

func detect(ctx context.Context, c *sql.Conn) dialect {
	var version string
	if c.QueryRowContext(ctx, "SELECT version()").Scan(&version) == nil {
		if strings.HasPrefix(version, "PostgreSQL ") || strings.HasPrefix(version, "CockroachDB ") {
			return postgres
		}
		if strings.Contains(version, "MariaDB") {
			return mariadb
		}
		return unknown
	}
	if c.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) == nil {
		return sqlite
	}
	return unknown
}

// reads returns how the database reads SQL.
func (d dialect) reads() driver.Dialect {
	switch d {
	case postgres:
		return driver.PostgreSQL | driver.PostgreSQLEscapes
	case sqlite:
		return driver.SQLite
	case mariadb:
		return driver.MySQL
	}
	return driver.AnyDialect
}

// sqlState is implemented by the server errors of PostgreSQL drivers.
type sqlState interface {
	error
	SQLState() string
}

// afterError tells what a failed statement did to the open transaction.
func (d dialect) afterError(ctx context.Context, c *conn, err error) driver.Fate {
	switch d {
	case postgres:
		var state sqlState
		switch {
		case err == nil: // and an aborted transaction takes nothing but a way back
			return driver.Intact
		case errors.As(err, &state) && !endsConnection(state.SQLState()):
			return driver.Aborted
		case c.alive(ctx):
			return driver.Intact // it never reached the server
		}
	case sqlite:
		return sqliteFate(ctx, c)
	case mariadb:
		return mariaDBFate(ctx, c)
	}
	return driver.Lost
}

// sqliteFate finds out whether SQLite has undone the transaction on its own,
// as it may after a full disk, an interrupt or ON CONFLICT ROLLBACK: then a
// BEGIN succeeds. See "Response To Errors Within A Transaction",
// https://www.sqlite.org/lang_transaction.html.
func sqliteFate(ctx context.Context, c *conn) driver.Fate {
	err := c.run(ctx, "BEGIN")
	switch {
	case err == nil:
		if c.run(ctx, "ROLLBACK") == nil {
			return driver.Undone
		}
	case strings.Contains(err.Error(), "within a transaction"):
		return driver.Intact
	}
	return driver.Lost
}

// afterCommit tells what a failed COMMIT left.
func (d dialect) afterCommit(ctx context.Context, c *conn, err error) driver.Outcome {
	var state sqlState
	switch {
	case errors.As(err, new(LostError)):
		return driver.Unknown
	case d == mariadb:
		return mariaDBOutcome(ctx, c, err)
	case d == sqlite && strings.Contains(err.Error(), "no transaction is active"):
		return driver.Unknown // a statement ended it behind our back
	case d == sqlite:
		// A refused COMMIT leaves the transaction open; most drivers have
		// rolled it back already, and then this fails.
		_ = c.run(ctx, "ROLLBACK")
		return driver.RolledBack
	case errors.As(err, &state) && (endsConnection(state.SQLState()) || state.SQLState() == "40003"):
		return driver.Unknown
	case c.alive(ctx):
		return driver.RolledBack // the server has answered, and it was not yes
	}
	return driver.Unknown
}

// endsConnection reports the SQLSTATEs with which PostgreSQL closes a
// connection: class 08, and 57P01 to 57P05 (shutdown, crash, timeout). The
// appendix "PostgreSQL Error Codes" lists them.
func endsConnection(state string) bool {
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P")
}

// transient knows PostgreSQL's errors by their SQLSTATE, MariaDB's and MySQL's
// by their number, and SQLite's by their code or, where a driver has no method
// for it, by SQLite's text. What has been committed must not be done again.
func transient(err error) bool {
	var state sqlState
	if errors.As(err, &state) {
		return state.SQLState() == "40001" || state.SQLState() == "40P01"
	}
	var coded interface {
		error
		Code() int
	}
	const busy = 5 // SQLITE_BUSY; the higher bits of a code say more
	if errors.As(err, &coded) {
		return coded.Code()&0xff == busy
	}
	switch number(err) {
	case errDeadlock, errLockWaitTimeout, errChanged:
		return !errors.As(err, new(*endedError))
	}
	return strings.Contains(err.Error(), "database is locked")
}

// writeRefused knows the errors of a read-only transaction or server as
// transient knows its own.
func writeRefused(err error) bool {
	var state sqlState
	if errors.As(err, &state) {
		return state.SQLState() == "25006"
	}
	var coded interface {
		error
		Code() int
	}
	const readOnly = 8 // SQLITE_READONLY
	if errors.As(err, &coded) {
		return coded.Code()&0xff == readOnly
	}
	text := err.Error()
	switch number(err) {
	case errReadOnlyTransaction, errReadOnlyMode:
		return true
	case errOption: // it is also that of other options
		return strings.Contains(text, "read-only") || strings.Contains(text, "read_only")
	}
	return strings.Contains(text, "attempt to write a readonly database")
}
