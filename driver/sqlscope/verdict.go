package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"reflect"

	"github.com/dbscope/dbscope/internal/pgerror"
)

// A COMMIT without an answer leaves its outcome unknown, unless it is certain
// that it was not sent, or that the server has not begun it. What can be known
// differs between drivers: docs/outcomes.md has the table.

// errGone is the answer of a connection that the driver, or the server, has closed.
var errGone = LostError{errors.New("it has been closed")}

// Look implements [driver.Looker] where the driver can look.
func (c *conn) Look() error {
	r, ok := c.raw.(sqldriver.SessionResetter)
	if ok && c.late == nil && looks(c.raw) && r.ResetSession(context.Background()) != nil {
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

// undoes reports an error that ended the session while its transaction was not
// committed.
func undoes(f failure) bool { return pgerror.EndedUncommitted(f.routine) }
