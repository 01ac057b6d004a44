package link

import (
	"database/sql"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// WillHave gives the transaction to come further options.
func (l *Link) WillHave(opts driver.TxOptions) {
	l.TX.ReadOnly = l.TX.ReadOnly || opts.ReadOnly
	l.TX.Deferrable = l.TX.Deferrable || opts.Deferrable
	if opts.Isolation != sql.LevelDefault {
		l.TX.Isolation = opts.Isolation
	}
}

// CannotHave refuses options that the open transaction does not have.
func (l *Link) CannotHave(opts driver.TxOptions) error {
	has := l.TX
	if (opts.Isolation == sql.LevelDefault || opts.Isolation == has.Isolation) &&
		(has.ReadOnly || !opts.ReadOnly) && (has.Deferrable || !opts.Deferrable) {
		return nil
	}
	return l.DB.Errorf("a nested transaction has the options of the one around it and cannot be %s: "+
		"pass them to the scope: %w", describe(opts), errs.ErrOpenTransaction)
}

func describe(opts driver.TxOptions) string {
	switch {
	case opts.ReadOnly:
		return "read-only"
	case opts.Deferrable:
		return "deferrable"
	}
	return opts.Isolation.String()
}
