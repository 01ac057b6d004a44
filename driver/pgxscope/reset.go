package pgxscope

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/internal/pgreset"
)

// Reset implements [driver.Resetter]. Of the statements that pgx has prepared those
// of the unit's handle go; pgx's own stay, and so do those that were prepared on the
// connection itself, as an AfterConnect does.
func (c *conn) Reset(ctx context.Context) error {
	if c.sql != nil {
		if err := c.sql.CloseStatements(); err != nil {
			return err
		}
	}
	if c.IsClosed() || !c.wire.quiet() || c.Ended() != nil || c.PgConn().TxStatus() != 'I' {
		return errors.New("the connection is not at rest")
	}
	defer c.bound(ctx)()
	for _, name := range c.prepared {
		if err := c.Deallocate(context.Background(), name); err != nil {
			return err
		}
	}
	_, err := c.PgConn().Exec(context.Background(), pgreset.Statements).ReadAll()
	c.dropNotifications()
	return err
}

// dropNotifications drops those that have arrived and that nobody has waited for.
// With a context that has ended pgx reads nothing more.
func (c *conn) dropNotifications() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if _, err := c.WaitForNotification(ended); err != nil {
			return
		}
	}
}
