package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"reflect"
)

// A COMMIT without an answer leaves its outcome unknown, unless it is certain
// that it was not sent, or that the server has not begun it. What can be known
// differs between drivers: docs/outcomes.md has the table.

// errGone is found before COMMIT is sent.
var errGone = LostError{errors.New("it had been closed before COMMIT was sent")}

// fit returns an error where COMMIT must not be sent.
func (c *conn) fit(ctx context.Context) error {
	if err := c.ready(""); err != nil {
		return err
	}
	if r, ok := c.raw.(sqldriver.SessionResetter); ok && looks(c.raw) && r.ResetSession(ctx) != nil {
		return errGone
	}
	return nil
}

// looks reports whether the driver's ResetSession does nothing but look, without
// waiting, whether the server has closed the connection. That of go-sql-driver/mysql
// does; others reset what belongs to the transaction.
func looks(raw sqldriver.Conn) bool { return reflect.TypeOf(raw).String() == "*mysql.mysqlConn" }

// usable reports whether the driver would send anything. lib/pq, for one, closes
// its connection where a statement's context ends as the statement returns.
func (c *conn) usable() bool {
	v, ok := c.raw.(sqldriver.Validator)
	return !ok || v.IsValid()
}

// undoes reports an error of PostgreSQL's that ends the session while its
// transaction is not committed. ProcessInterrupts raises it where interrupts are
// not held off, which they are from before the commit is written until it is
// done, and secure_read while the server waits for the client. What ends the
// session later is a warning, for an error would, in the words of
// SyncRepWaitForLSN, "lead the client to believe that the transaction aborted".
// The SQLSTATE is not enough: poolers, and other servers that speak the protocol,
// use the same ones at other times. They do not name these routines.
func undoes(f failure) bool { return f.routine == "ProcessInterrupts" || f.routine == "secure_read" }
