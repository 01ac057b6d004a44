package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
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
	mysql // tested on 9.7
)

// ofMySQL reports whether it is MariaDB or MySQL, which are of one family.
func (d dialect) ofMySQL() bool { return d == mariadb || d == mysql }

// detect returns the error of the first question, too, which other databases
// answer with one. It is undetected where the database has to be asked again.
func detect(ctx context.Context, c asker) (dialect, error) {
	var version string
	err := c.QueryRowContext(ctx, "SELECT version()").Scan(&version)
	if err == nil {
		if strings.HasPrefix(version, "PostgreSQL ") || strings.HasPrefix(version, "CockroachDB ") {
			return postgres, nil
		}
		if strings.Contains(version, "MariaDB") {
			return mariadb, nil
		}
		return detectMySQL(ctx, c)
	}
	if c.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) == nil {
		return sqlite, nil
	}
	return unknown, err
}

// reads returns how the database reads SQL.
func (d dialect) reads() driver.Dialect {
	switch d {
	case postgres:
		return driver.PostgreSQL | driver.PostgreSQLEscapes
	case sqlite:
		return driver.SQLite
	case mariadb, mysql:
		return driver.MySQL
	}
	return driver.AnyDialect
}

// afterError tells what a failed statement did to the open transaction.
func (d dialect) afterError(ctx context.Context, c *conn, err error) driver.Fate {
	switch d {
	case postgres:
		return postgresFate(ctx, c, err)
	case sqlite:
		return sqliteFate(ctx, c)
	case mariadb, mysql:
		return mysqlFate(ctx, c)
	}
	return driver.Lost
}

// postgresFate asks the server where the error does not tell: it may be none of
// the server's, or one that a driver which is not known here gives a type of its
// own.
func postgresFate(ctx context.Context, c *conn, err error) driver.Fate {
	aborts := func(f failure) bool { return f.state != "" && !endsConnection(f.state) }
	v, ok := c.raw.(sqldriver.Validator)
	switch {
	case ok && !v.IsValid(): // lib/pq gives it up where a statement is cancelled
		return driver.Lost
	case err == nil: // and an aborted transaction takes nothing but a way back
		return driver.Intact
	case anyFailure(err, aborts):
		return driver.Aborted
	case c.run(ctx, "SELECT 1") == nil:
		return driver.Intact // the statement never reached the server
	case c.alive(ctx):
		return driver.Aborted // it takes no statement any more
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
	switch {
	case errors.As(err, new(LostError)):
		return driver.Unknown
	case d.ofMySQL(), d == unknown && number(err) != 0: // or what speaks their protocol
		return mysqlOutcome(ctx, c, err)
	case d == sqlite && strings.Contains(err.Error(), "no transaction is active"):
		return driver.Unknown // a statement ended it behind our back
	case d == sqlite:
		// A refused COMMIT leaves the transaction open; most drivers have
		// rolled it back already, and then this fails.
		_ = c.run(ctx, "ROLLBACK")
		return driver.RolledBack
	case anyFailure(err, undoes):
		c.lost = !c.alive(ctx)
		return driver.RolledBack
	case anyFailure(err, func(f failure) bool { return endsConnection(f.state) || f.state == "40003" }):
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
