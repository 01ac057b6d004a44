package session

import (
	"database/sql"
	"fmt"

	"github.com/dbscope/dbscope/driver"
)

// OverError is the answer of a transaction that was ended before.
type OverError struct {
	db string
	o  driver.Outcome
}

func (e *OverError) Error() string {
	return fmt.Sprintf("dbscope: %s: this transaction is over (%s), ask the DB for its successor: %v", e.db, e.o, sql.ErrTxDone)
}

func (*OverError) Unwrap() error { return sql.ErrTxDone }
