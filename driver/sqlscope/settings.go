package sqlscope

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/dbscope/dbscope/driver"
)

// errNoSettings is that of all databases but PostgreSQL and its relatives: MariaDB's
// SET STATEMENT is for one statement, and the rest stays on the connection.
var errNoSettings = errors.New("sqlscope: this database has no settings that are local to a transaction")

// CanSet implements [driver.Setter].
func (c *conn) CanSet() error {
	if c.dialect != postgres {
		return errNoSettings
	}
	return nil
}

// Set implements [driver.Setter]: one statement for all of them.
func (c *conn) Set(ctx context.Context, settings []driver.Setting) error {
	if err := c.admit(ctx); err != nil {
		return err
	}
	text, args := settingsStatement(settings)
	_, err := c.pooled.ExecContext(ctx, text, args...)
	return hide(err)
}

// Set implements [driver.Setter].
func (c *adopted) Set(ctx context.Context, settings []driver.Setting) error {
	text, args := settingsStatement(settings)
	_, err := c.forward.tx.ExecContext(ctx, text, args...)
	return hide(err)
}

func settingsStatement(settings []driver.Setting) (query string, args []any) {
	var text strings.Builder
	for _, s := range settings {
		args = append(args, s.Name, s.Value)
		text.WriteString(", pg_catalog.set_config($" + strconv.Itoa(len(args)-1) + ", $" + strconv.Itoa(len(args)) + ", true)")
	}
	return "SELECT" + text.String()[1:], args
}
