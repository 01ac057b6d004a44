package sqlscope

import (
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"io"
	"reflect"
)

// arguments are those that the user has passed.
func arguments(args []sqldriver.NamedValue) []any {
	all := make([]any, len(args))
	for i, a := range args {
		if all[i] = a.Value; a.Name != "" {
			all[i] = sql.Named(a.Name, a.Value)
		}
	}
	return all
}

// driverRows are rows of database/sql as those of a driver.
type driverRows struct {
	*sql.Rows
	explain func(error) error
	columns []string
	types   []*sql.ColumnType // once they are asked for
	targets []any
}

// asDriverRows makes them of the answer to a query. explain is what becomes of an error.
func asDriverRows(rows *sql.Rows, err error, explain func(error) error) (sqldriver.Rows, error) {
	if err != nil {
		return nil, explain(err)
	}
	r := &driverRows{Rows: rows, explain: explain}
	if err := r.begin(); err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return r, nil
}

// begin begins to read a result.
func (r *driverRows) begin() (err error) {
	r.columns, err = r.Rows.Columns()
	r.types, r.targets = nil, make([]any, len(r.columns))
	return err
}

// Columns implements [sqldriver.Rows].
func (r *driverRows) Columns() []string { return r.columns }

// Next implements [sqldriver.Rows].
func (r *driverRows) Next(dest []sqldriver.Value) error {
	if !r.Rows.Next() {
		if err := r.Err(); err != nil {
			return r.explain(err)
		}
		return io.EOF
	}
	for i := range dest {
		r.targets[i] = (*any)(&dest[i])
	}
	return r.Scan(r.targets...)
}

// HasNextResultSet implements [sqldriver.RowsNextResultSet]: the pool closes the rows
// with the last row of the last one.
func (r *driverRows) HasNextResultSet() bool {
	_, err := r.Rows.Columns()
	return err == nil
}

// NextResultSet implements [sqldriver.RowsNextResultSet].
func (r *driverRows) NextResultSet() error {
	if !r.Rows.NextResultSet() {
		if err := r.Err(); err != nil {
			return r.explain(err)
		}
		return io.EOF
	}
	return r.begin()
}

// columnType asks the pool for a column's type.
func (r *driverRows) columnType(i int) *sql.ColumnType {
	if r.types == nil {
		r.types, _ = r.ColumnTypes() // which fails once the rows are closed
	}
	if i >= len(r.types) {
		return &sql.ColumnType{}
	}
	return r.types[i]
}

// ColumnTypeScanType implements [sqldriver.RowsColumnTypeScanType].
func (r *driverRows) ColumnTypeScanType(i int) reflect.Type { return r.columnType(i).ScanType() }

// ColumnTypeDatabaseTypeName implements [sqldriver.RowsColumnTypeDatabaseTypeName].
func (r *driverRows) ColumnTypeDatabaseTypeName(i int) string {
	return r.columnType(i).DatabaseTypeName()
}

// ColumnTypeLength implements [sqldriver.RowsColumnTypeLength].
func (r *driverRows) ColumnTypeLength(i int) (int64, bool) { return r.columnType(i).Length() }

// ColumnTypeNullable implements [sqldriver.RowsColumnTypeNullable].
func (r *driverRows) ColumnTypeNullable(i int) (nullable, ok bool) { return r.columnType(i).Nullable() }

// ColumnTypePrecisionScale implements [sqldriver.RowsColumnTypePrecisionScale].
func (r *driverRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return r.columnType(i).DecimalSize()
}

var _ sqldriver.RowsNextResultSet = (*driverRows)(nil)
