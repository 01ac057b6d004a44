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
	lacks := Lacks(l.TX, opts)
	if lacks == "" {
		return nil
	}
	return l.DB.Errorf("a nested transaction has the options of the one around it and cannot be %s: "+
		"pass them to the scope: %w", lacks, errs.ErrOpenTransaction)
}

// Lacks names an option that is wanted of a transaction and that it does not have, or
// returns "".
func Lacks(has, wanted driver.TxOptions) string {
	switch {
	case wanted.ReadOnly && !has.ReadOnly:
		return "read-only"
	case wanted.Deferrable && !has.Deferrable:
		return "deferrable"
	case wanted.Isolation != sql.LevelDefault && wanted.Isolation != has.Isolation:
		return wanted.Isolation.String()
	}
	return ""
}
