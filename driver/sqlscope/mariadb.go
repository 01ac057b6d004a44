package sqlscope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// On MariaDB a failed statement is undone alone, unless the server undoes the
// whole transaction, as after a deadlock; and statements such as CREATE TABLE
// commit it. Either way @@in_transaction tells that there is none any more.

// endedError tells that a statement committed the transaction it was part of.
type endedError struct{ statement string }

func (e *endedError) Error() string {
	return "sqlscope: the statement " + e.statement + " has committed the transaction, with all that was done in it before, " +
		"and nothing can undo that: run such statements outside of a scope, on the pool that Engine returns"
}

func (*endedError) Unwrap() error { return driver.ErrEnded }

// askTimeout is for a question that belongs to a statement whose context may
// have ended.
const askTimeout = 5 * time.Second

// afterStatement looks, after a statement that could have committed the
// transaction, whether it did.
func (c *conn) afterStatement(ctx context.Context, query string, err error) error {
	c.held = ""
	if c.tx == nil || c.ended != nil || errors.Is(err, driver.ErrNotSent) {
		return err
	}
	word, may := mayCommit(query)
	if !may {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	open, asking := c.inTransaction(ctx)
	switch {
	case asking != nil:
		return joined(err, asking)
	case open:
		return err
	case word == "CALL" && isDeadlock(err):
		return err // what it did is undone
	}
	c.ended = &endedError{word}
	if err != nil {
		return fmt.Errorf("%w: %w", err, c.ended)
	}
	return c.ended
}

func (c *conn) inTransaction(ctx context.Context) (bool, error) {
	row, err := c.row(ctx, "SELECT @@in_transaction")
	return err == nil && len(row) == 1 && row[0] == "1", err
}

// Ended returns an error where a statement has committed the transaction.
func (c *conn) Ended() error {
	if c.held != "" && c.late == nil { // the core has closed its rows
		if err := c.afterStatement(context.Background(), c.held, nil); err != nil {
			return err
		}
	}
	if c.ended != nil {
		return c.ended
	}
	return nil
}

// refuse is the answer to what would follow in a transaction that is no more.
func (c *conn) refuse() error {
	if err := c.lateError(); err != nil {
		return err
	}
	err := c.Ended()
	if c.ended != nil {
		return fmt.Errorf("%w: %w", err, driver.ErrNotSent)
	}
	return err
}

// mariaDBFate tells what a failed statement did. Those that could have committed
// have been looked at already.
func mariaDBFate(ctx context.Context, c *conn, err error) driver.Fate {
	if errors.As(err, new(*endedError)) {
		return driver.Intact // every statement to come, and the commit, tells of it
	}
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

func isDeadlock(err error) bool { return number(err) == errDeadlock }

// harmless are the statements that commit nothing, by their first words. There
// are others; asking about those costs a round trip.
var harmless = []string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO",
	"SAVEPOINT", "RELEASE", "ROLLBACK", // to a savepoint: others are refused
}

// mayCommit reports whether a statement could commit the transaction, and its
// first word: anything but the harmless, and what comes in a text together with
// others. See "SQL statements that cause an implicit commit",
// https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/.
func mayCommit(query string) (word string, may bool) {
	first, several, _ := strings.Cut(query, ";")
	word = firstWord(first)
	if strings.TrimSpace(several) == "" && slices.ContainsFunc(harmless, func(h string) bool { return strings.EqualFold(h, word) }) {
		return "", false
	}
	return strings.ToUpper(word), true
}

// firstWord returns the first word, past what may come before it. Comments that
// the server executes are no comments.
func firstWord(query string) string {
	for {
		query = strings.TrimLeft(query, " \t\r\n(")
		var ok bool
		switch {
		case strings.HasPrefix(query, "--"), strings.HasPrefix(query, "#"):
			_, query, ok = strings.Cut(query, "\n")
		case strings.HasPrefix(query, "/*") && !strings.HasPrefix(query, "/*!") && !strings.HasPrefix(query, "/*M!"):
			_, query, ok = strings.Cut(query[2:], "*/")
		default:
			end := 0
			for end < len(query) && 'a' <= query[end]|0x20 && query[end]|0x20 <= 'z' {
				end++
			}
			return query[:end]
		}
		if !ok {
			return ""
		}
	}
}
