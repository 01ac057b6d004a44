package dbscope

import (
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// result is how a session ended.
type result struct {
	open    bool           // there was something to end
	outcome driver.Outcome // what became of it; where nothing was open, of what was to be
	err     error
	lost    bool // the answer to COMMIT was, and it was not done
}

// overError is the answer of a transaction that was ended before.
type overError struct {
	db string
	o  driver.Outcome
}

func (e *overError) Error() string {
	return fmt.Sprintf("dbscope: %s: this transaction is over (%s), ask the DB for its successor: %v", e.db, e.o, sql.ErrTxDone)
}

func (*overError) Unwrap() error { return sql.ErrTxDone }
