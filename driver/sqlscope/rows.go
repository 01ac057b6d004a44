package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"io"
	"reflect"

	"github.com/dbscope/dbscope/driver"
)

// rows are a driver's rows while they occupy the session. database/sql does
// not touch them after it has closed them; then, and only then, the connection
// may use them for its next query.
type rows struct {
	c       *RawConn
	raw     sqldriver.Rows
	s       driver.Session
	ctx     context.Context
	query   string
	columns []string
	closed  bool
	owner   owner
}

// hold leaves the rows of an admitted query open, or ends the query where it
// failed: done is false where it panicked.
func hold(ctx context.Context, s driver.Session, c *RawConn, query string, raw *sqldriver.Rows, done *bool, err *error) {
	if !*done || *err != nil {
		exit(ctx, s, c, query, done, err)
		return
	}
	r := c.spare
	if r == nil {
		r = &rows{c: c}
	}
	c.spare = nil
	r.raw, r.s, r.ctx, r.query, r.columns, r.closed = *raw, s, ctx, query, (*raw).Columns(), false
	r.owner.reset()
	s.Hold((*held)(r))
	*raw = r
}

// held are the rows as the core has them, to close them at an end.
type held rows

// Close implements [driver.Rows].
func (h *held) Close(ctx context.Context) error {
	h.owner.left()
	return h.c.closeRows(ctx, h.raw)
}

// Columns implements [sqldriver.Rows].
func (r *rows) Columns() []string { return r.columns }

// Next implements [sqldriver.Rows].
func (r *rows) Next(dest []sqldriver.Value) (err error) {
	if err := r.resume(); err != nil {
		return err
	}
	done := false
	defer r.pause(&done, &err)
	if err = r.ctx.Err(); err == nil {
		err = r.raw.Next(dest)
	}
	done = true
	return err
}

// resume takes the session for a read.
func (r *rows) resume() error {
	if r.closed {
		return io.EOF
	}
	return r.s.Resume((*held)(r))
}

// pause ends a read: an error other than the end of the rows closes them.
func (r *rows) pause(done *bool, err *error) {
	if *done && (*err == nil || errors.Is(*err, io.EOF)) {
		r.s.Hold((*held)(r))
		return
	}
	r.closed = true
	if *done {
		// Some drivers tell of one failure in both.
		if closing := r.raw.Close(); closing != nil && closing.Error() != (*err).Error() {
			*err = errors.Join(*err, closing)
		}
	}
	exit(r.ctx, r.s, r.c, r.query, done, err)
}

// Close implements [sqldriver.Rows]. Rows that the end of their transaction
// has closed are closed.
func (r *rows) Close() (err error) {
	if r.closed || r.s.Resume((*held)(r)) != nil {
		return nil
	}
	r.closed = true
	done := false
	defer exit(r.ctx, r.s, r.c, r.query, &done, &err)
	err = r.raw.Close()
	r.owner.reset()
	r.raw, r.c.spare = nil, r
	done = true
	return err
}

// HasNextResultSet implements [sqldriver.RowsNextResultSet].
func (r *rows) HasNextResultSet() bool {
	n, ok := r.raw.(sqldriver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

// NextResultSet implements [sqldriver.RowsNextResultSet].
func (r *rows) NextResultSet() (err error) {
	n, ok := r.raw.(sqldriver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	if err := r.resume(); err != nil {
		return err
	}
	done := false
	defer r.pause(&done, &err)
	if err = n.NextResultSet(); err == nil {
		r.columns = r.raw.Columns()
	}
	done = true
	return err
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
