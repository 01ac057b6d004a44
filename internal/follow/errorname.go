package follow

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
)

// known are errors whose names are better than their types, the more telling first.
var known = []struct {
	err  error
	name string
}{
	{errs.ErrCommitUnknown, "dbscope.ErrCommitUnknown"},
	{pools.ErrDeadlock, "dbscope.ErrPoolDeadlock"},
	{errs.ErrSessionBusy, "dbscope.ErrSessionBusy"},
	{errs.ErrOpenTransaction, "dbscope.ErrOpenTransaction"},
	{errs.ErrScopeEnded, "dbscope.ErrScopeEnded"},
	{context.Canceled, "context.Canceled"},
	{context.DeadlineExceeded, "context.DeadlineExceeded"},
	{errs.ErrRolledBack, "dbscope.ErrRolledBack"},
}

// ErrorName says what kind of error it is, without a word of its text, which may have
// values of the application's users in it: the SQLSTATE where the database says one, the
// name of one of dbscope's, or the type. It is "" for nil.
func ErrorName(err error) string {
	if err == nil {
		return ""
	}
	if state := SQLState(err); state != "" {
		return state
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprintf("%T", err)
		}
		err = inner
	}
}

// SQLState is what the database has said, or "".
func SQLState(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}
