package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"fmt"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// forward is a driver's connection whose statements run on a *sql.Tx. What its user
// passes and gets is not changed on the way: arguments, columns, values, errors.
type forward struct {
	tx   *sql.Tx
	left atomic.Bool // its owner has ended it
}

// errLeft refuses what comes after the owner's end.
var errLeft = fmt.Errorf("sqlscope: the transaction was ended by the code that began it: %w: %w", sql.ErrTxDone, driver.ErrNotSent)

func (f *forward) admit() error {
	if f.left.Load() {
		return errLeft
	}
	return nil
}

// CheckNamedValue implements [sqldriver.NamedValueChecker]: tx checks.
func (*forward) CheckNamedValue(*sqldriver.NamedValue) error { return nil }

// ExecContext implements [sqldriver.ExecerContext].
func (f *forward) ExecContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	if err := f.admit(); err != nil {
		return nil, err
	}
	return f.tx.ExecContext(ctx, query, arguments(args)...)
}

// QueryContext implements [sqldriver.QueryerContext].
func (f *forward) QueryContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	if err := f.admit(); err != nil {
		return nil, err
	}
	return forwarded(f.tx.QueryContext(ctx, query, arguments(args)...))
}

// PrepareContext implements [sqldriver.ConnPrepareContext].
func (f *forward) PrepareContext(ctx context.Context, query string) (sqldriver.Stmt, error) {
	if err := f.admit(); err != nil {
		return nil, err
	}
	st, err := f.tx.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return forwardStmt{st}, nil
}

// Prepare implements [sqldriver.Conn].
func (f *forward) Prepare(query string) (sqldriver.Stmt, error) {
	return f.PrepareContext(context.Background(), query)
}

// Begin implements [sqldriver.Conn].
func (*forward) Begin() (sqldriver.Tx, error) { return nil, errOwners }

// Close implements [sqldriver.Conn].
func (*forward) Close() error { return nil }

// forwardStmt is a statement that was prepared on a *sql.Tx.
type forwardStmt struct{ *sql.Stmt }

// NumInput implements [sqldriver.Stmt]: tx counts.
func (forwardStmt) NumInput() int { return -1 }

// ExecContext implements [sqldriver.StmtExecContext].
func (st forwardStmt) ExecContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	return st.Stmt.ExecContext(ctx, arguments(args)...)
}

// QueryContext implements [sqldriver.StmtQueryContext].
func (st forwardStmt) QueryContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	return forwarded(st.Stmt.QueryContext(ctx, arguments(args)...))
}

// Exec implements [sqldriver.Stmt].
func (forwardStmt) Exec([]sqldriver.Value) (sqldriver.Result, error) { return nil, errOldMethod }

// Query implements [sqldriver.Stmt].
func (forwardStmt) Query([]sqldriver.Value) (sqldriver.Rows, error) { return nil, errOldMethod }

func forwarded(rows *sql.Rows, err error) (sqldriver.Rows, error) {
	return asDriverRows(rows, err, func(err error) error { return err })
}

var (
	_ sqldriver.QueryerContext = (*forward)(nil)
	_ sqldriver.ExecerContext  = (*forward)(nil)
)
