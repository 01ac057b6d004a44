package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"io"
	"reflect"

	"github.com/dbscope/dbscope/driver"
)

// rows are a driver's rows while they occupy the session. There is one for
// each query: a reader that kept rows past their transaction must not meet
// those of a later query.
type rows struct {
	raw     sqldriver.Rows
	s       driver.Session
	ctx     context.Context
	columns []string
	closed  bool
}

// hold runs an admitted query and leaves its rows open.
func hold(ctx context.Context, s driver.Session, query func() (sqldriver.Rows, error)) (_ sqldriver.Rows, err error) {
	done := false
	defer func() {
		if !done || err != nil {
			exit(ctx, s, &done, &err)
		}
	}()
	raw, err := query()
	done = true
	if err != nil {
		return nil, err
	}
	r := &rows{raw: raw, s: s, ctx: ctx, columns: raw.Columns()}
	s.Hold(raw)
	return r, nil
}

// Columns implements [sqldriver.Rows].
func (r *rows) Columns() []string { return r.columns }

// Next implements [sqldriver.Rows].
func (r *rows) Next(dest []sqldriver.Value) error {
	return r.read(func() error { return r.raw.Next(dest) })
}

// read has the session to itself while next reads from the rows. An error
// other than their end closes them.
func (r *rows) read(next func() error) (err error) {
	if r.closed {
		return io.EOF
	}
	if err := r.s.Resume(); err != nil {
		return err
	}
	done := false
	defer func() {
		if done && (err == nil || errors.Is(err, io.EOF)) {
			return
		}
		r.closed = true
		if done {
			err = errors.Join(err, r.raw.Close())
		}
		exit(r.ctx, r.s, &done, &err)
	}()
	err = next()
	if err == nil || errors.Is(err, io.EOF) {
		r.s.Hold(r.raw)
	}
	done = true
	return err
}

// Close implements [sqldriver.Rows]. Rows that the end of their transaction
// has closed are closed.
func (r *rows) Close() (err error) {
	if r.closed || r.s.Resume() != nil {
		return nil
	}
	r.closed = true
	done := false
	defer exit(r.ctx, r.s, &done, &err)
	err = r.raw.Close()
	done = true
	return err
}

// HasNextResultSet implements [sqldriver.RowsNextResultSet].
func (r *rows) HasNextResultSet() bool {
	n, ok := r.raw.(sqldriver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

// NextResultSet implements [sqldriver.RowsNextResultSet].
func (r *rows) NextResultSet() error {
	n, ok := r.raw.(sqldriver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	return r.read(func() error {
		err := n.NextResultSet()
		if err == nil {
			r.columns = r.raw.Columns()
		}
		return err
	})
}

// The rest answers what database/sql would assume of rows without it.

// ColumnTypeScanType implements [sqldriver.RowsColumnTypeScanType].
func (r *rows) ColumnTypeScanType(i int) reflect.Type {
	if c, ok := r.raw.(sqldriver.RowsColumnTypeScanType); ok {
		return c.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}

// ColumnTypeDatabaseTypeName implements [sqldriver.RowsColumnTypeDatabaseTypeName].
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	if c, ok := r.raw.(sqldriver.RowsColumnTypeDatabaseTypeName); ok {
		return c.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

// ColumnTypeLength implements [sqldriver.RowsColumnTypeLength].
func (r *rows) ColumnTypeLength(i int) (int64, bool) {
	if c, ok := r.raw.(sqldriver.RowsColumnTypeLength); ok {
		return c.ColumnTypeLength(i)
	}
	return 0, false
}

// ColumnTypeNullable implements [sqldriver.RowsColumnTypeNullable].
func (r *rows) ColumnTypeNullable(i int) (nullable, ok bool) {
	if c, ok := r.raw.(sqldriver.RowsColumnTypeNullable); ok {
		return c.ColumnTypeNullable(i)
	}
	return false, false
}

// ColumnTypePrecisionScale implements [sqldriver.RowsColumnTypePrecisionScale].
func (r *rows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if c, ok := r.raw.(sqldriver.RowsColumnTypePrecisionScale); ok {
		return c.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}
