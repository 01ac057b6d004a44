package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"fmt"
	"io"
	"reflect"
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

// arguments are those that the user has passed.
func arguments(named []sqldriver.NamedValue) []any {
	args := make([]any, len(named))
	for i, a := range named {
		if args[i] = a.Value; a.Name != "" {
			args[i] = sql.Named(a.Name, a.Value)
		}
	}
	return args
}

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

// forwardRows are those of a *sql.Tx as a driver's.
type forwardRows struct {
	rows   *sql.Rows
	types  []*sql.ColumnType // of the result set, once asked for
	values []any
	into   []any // pointers to values
}

func forwarded(rows *sql.Rows, err error) (sqldriver.Rows, error) {
	if err != nil {
		return nil, err
	}
	return &forwardRows{rows: rows}, nil
}

// Columns implements [sqldriver.Rows].
func (r *forwardRows) Columns() []string {
	names, _ := r.rows.Columns() // it fails once they are closed, and then there are none
	return names
}

// Next implements [sqldriver.Rows].
func (r *forwardRows) Next(dest []sqldriver.Value) error {
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	if len(r.values) != len(dest) {
		r.values, r.into = make([]any, len(dest)), make([]any, len(dest))
		for i := range r.values {
			r.into[i] = &r.values[i]
		}
	}
	if err := r.rows.Scan(r.into...); err != nil {
		return err
	}
	for i, v := range r.values {
		dest[i] = v
	}
	return nil
}

// Close implements [sqldriver.Rows].
func (r *forwardRows) Close() error { return r.rows.Close() }

// HasNextResultSet implements [sqldriver.RowsNextResultSet]. Rows that have no more
// result sets are closed when the last of their rows was read.
func (r *forwardRows) HasNextResultSet() bool {
	_, err := r.rows.Columns()
	return err == nil
}

// NextResultSet implements [sqldriver.RowsNextResultSet].
func (r *forwardRows) NextResultSet() error {
	if !r.rows.NextResultSet() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	r.types = nil
	return nil
}

func (r *forwardRows) column(i int) *sql.ColumnType {
	if r.types == nil {
		r.types, _ = r.rows.ColumnTypes() // as Columns
	}
	if i >= len(r.types) {
		return &sql.ColumnType{}
	}
	return r.types[i]
}

// ColumnTypeScanType implements [sqldriver.RowsColumnTypeScanType].
func (r *forwardRows) ColumnTypeScanType(i int) reflect.Type { return r.column(i).ScanType() }

// ColumnTypeDatabaseTypeName implements [sqldriver.RowsColumnTypeDatabaseTypeName].
func (r *forwardRows) ColumnTypeDatabaseTypeName(i int) string {
	return r.column(i).DatabaseTypeName()
}

// ColumnTypeLength implements [sqldriver.RowsColumnTypeLength].
func (r *forwardRows) ColumnTypeLength(i int) (int64, bool) { return r.column(i).Length() }

// ColumnTypeNullable implements [sqldriver.RowsColumnTypeNullable].
func (r *forwardRows) ColumnTypeNullable(i int) (nullable, ok bool) { return r.column(i).Nullable() }

// ColumnTypePrecisionScale implements [sqldriver.RowsColumnTypePrecisionScale].
func (r *forwardRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return r.column(i).DecimalSize()
}

var (
	_ sqldriver.QueryerContext    = (*forward)(nil)
	_ sqldriver.ExecerContext     = (*forward)(nil)
	_ sqldriver.RowsNextResultSet = (*forwardRows)(nil)
)
