package sqlscope

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// On MariaDB and MySQL a failed statement is undone alone, unless the server undoes the
// whole transaction, as after a deadlock; and statements such as CREATE TABLE
// commit it: see [witness].

// inTransaction asks the server whether a transaction is open.
func (c *conn) inTransaction(ctx context.Context) (bool, error) {
	if c.dialect == mariadb {
		row, err := c.row(ctx, "SELECT @@in_transaction")
		return err == nil && len(row) == 1 && row[0] == "1", err
	}
	err := c.run(ctx, onlyOutside)
	if number(err) == errWithinTransaction {
		return true, nil
	}
	if err == nil {
		err = c.run(ctx, "ROLLBACK") // of nothing, so that the next transaction is as if nobody had asked
	}
	return false, err
}

// onlyOutside is a statement that MySQL, which has no variable for it, refuses within a
// transaction, and that does nothing else there. Other servers that speak its protocol
// may accept it anywhere.
const onlyOutside = "SET TRANSACTION READ WRITE"

// detectMySQL asks whether the server refuses onlyOutside within a transaction, in
// which c may be already.
func detectMySQL(ctx context.Context, c asker) (dialect, error) {
	if pooled, is := c.(*sql.Conn); is {
		tx, err := pooled.BeginTx(ctx, nil)
		if err != nil {
			return undetected, err
		}
		defer func() { _ = tx.Rollback() }() // which fails where the connection is lost
		c = tx
	}
	rows, err := c.QueryContext(ctx, onlyOutside)
	if err == nil {
		return unknown, rows.Close()
	}
	if number(err) == errWithinTransaction {
		return mysql, nil
	}
	return unknown, nil
}

// autocommits reports whether the server commits statements outside of transactions.
func autocommits(ctx context.Context, c *sql.Conn) bool {
	var on bool
	return c.QueryRowContext(ctx, "SELECT @@autocommit").Scan(&on) != nil || on
}

// errManual refuses a statement without a scope where that would not be committed.
var errManual = fmt.Errorf("sqlscope: autocommit is off, so that a statement without a scope would not be committed: "+
	"leave autocommit=0 out of the data source name and of the server's init_connect: %w", driver.ErrNotSent)

// mysqlFate tells what a failed statement did. Those that could have ended the
// transaction have been looked at already.
func mysqlFate(ctx context.Context, c *conn) driver.Fate {
	switch open, err := c.inTransaction(ctx); {
	case err != nil:
		return driver.Lost
	case open:
		return driver.Intact
	}
	return driver.Undone
}

// Errors of MariaDB and MySQL. See "MariaDB Error Code Reference",
// https://mariadb.com/kb/en/mariadb-error-code-reference/, and "Server Error Message
// Reference", https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html.
const (
	errChanged             = 1020 // a row has changed since the snapshot
	errShutdown            = 1053
	errDuringCommit        = 1180
	errLockWaitTimeout     = 1205
	errDeadlock            = 1213
	errOption              = 1290 // an option of the server forbids it
	errNoSavepoint         = 1305 // or procedure, which none is asked for
	errInterrupted         = 1317
	errTableChanged        = 1412 // since the snapshot, by ALTER TABLE
	errWithinTransaction   = 1568 // it is possible outside of one alone
	errPrepareAgain        = 1615 // tables kept changing while the statement was prepared
	errReadOnlyTransaction = 1792
	errReadOnlyMode        = 1836
	errKilled              = 1927
	errStatementTime       = 1969
	errUndoneByReplication = 3101 // MySQL's, by a transaction of another server of the group
	errTiDBUndetermined    = 8501 // whether it has committed
)

// errorsOfTiDB are its own for a transaction that it has undone and that may succeed
// another time: a conflict of writes that is found by COMMIT (9007), a commit that
// cannot be tried again by itself (8002, 8022), a table that was altered (8028). See
// "Error Codes and Troubleshooting", https://docs.pingcap.com/tidb/stable/error-codes.
var errorsOfTiDB = []int{8002, 8022, 8028, 9007}

// mysqlOutcome tells what a failed COMMIT left.
func mysqlOutcome(ctx context.Context, c *conn, err error) driver.Outcome {
	switch number(err) {
	case 0, errShutdown, errDuringCommit, errInterrupted, errKilled, errStatementTime, errTiDBUndetermined:
		return driver.Unknown
	}
	_ = c.run(ctx, "ROLLBACK") // of what is left, which is nothing as a rule
	return driver.RolledBack
}
