package sqlscope

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/internal/pgreset"
)

// errNoReset is that of databases which have no statement for it. MariaDB and
// MySQL have a message, which their driver does not send.
var errNoReset = errors.New("sqlscope: there is no statement that resets a connection to this database")

// Reset implements [driver.Resetter].
func (c *conn) Reset(ctx context.Context) error {
	switch {
	case c.dialect != postgres:
		return errNoReset
	case c.late != nil || c.lost || c.ended != nil || !c.usable():
		return errGone
	}
	if err := c.CloseStatements(); err != nil {
		return err
	}
	return c.run(ctx, pgreset.Statements)
}
