package sqlscope

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// On MariaDB a failed statement is undone alone, unless the server undoes the
// whole transaction, as after a deadlock; and statements such as CREATE TABLE
// commit it: see [witness].

func (c *conn) inTransaction(ctx context.Context) (bool, error) {
	row, err := c.row(ctx, "SELECT @@in_transaction")
	return err == nil && len(row) == 1 && row[0] == "1", err
}

// autocommits reports whether MariaDB commits statements outside of transactions.
func autocommits(ctx context.Context, c *sql.Conn) bool {
	var on bool
	return c.QueryRowContext(ctx, "SELECT @@autocommit").Scan(&on) != nil || on
}

// errManual refuses a statement without a scope where that would not be committed.
var errManual = fmt.Errorf("sqlscope: autocommit is off, so that a statement without a scope would not be committed: "+
	"leave autocommit=0 out of the data source name and of the server's init_connect: %w", driver.ErrNotSent)

// mariaDBFate tells what a failed statement did. Those that could have ended the
// transaction have been looked at already.
func mariaDBFate(ctx context.Context, c *conn) driver.Fate {
	switch open, err := c.inTransaction(ctx); {
	case err != nil:
		return driver.Lost
	case open:
		return driver.Intact
	}
	return driver.Undone
}

// Errors of MariaDB and MySQL. See "MariaDB Error Code Reference",
// https://mariadb.com/kb/en/mariadb-error-code-reference/.
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
	errPrepareAgain        = 1615 // tables kept changing while the statement was prepared
	errReadOnlyTransaction = 1792
	errReadOnlyMode        = 1836
	errKilled              = 1927
	errStatementTime       = 1969
	errUndoneByReplication = 3101 // MySQL's, by a transaction of another server of the group
)

// mariaDBOutcome tells what a failed COMMIT left.
func mariaDBOutcome(ctx context.Context, c *conn, err error) driver.Outcome {
	switch number(err) {
	case 0, errShutdown, errDuringCommit, errInterrupted, errKilled, errStatementTime:
		return driver.Unknown
	}
	_ = c.run(ctx, "ROLLBACK") // of what is left, which is nothing as a rule
	return driver.RolledBack
}
