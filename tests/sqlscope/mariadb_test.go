package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"regexp"

	"github.com/go-sql-driver/mysql"
)

func init() {
	sql.Register("mysql with $1", dollars{})
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it tells of each connection that a test breaks
}

// dollars is go-sql-driver/mysql for queries whose placeholders are PostgreSQL's
// and SQLite's, so that one suite runs on all.
type dollars struct{}

var placeholder = regexp.MustCompile(`\$\d+`)

func (dollars) Open(dsn string) (sqldriver.Conn, error) {
	c, err := mysql.MySQLDriver{}.Open(dsn)
	if err != nil {
		return nil, err
	}
	return dollarConn{c.(mysqlConn)}, nil
}

type mysqlConn interface {
	sqldriver.Conn
	sqldriver.ConnBeginTx
	sqldriver.ConnPrepareContext
	sqldriver.ExecerContext
	sqldriver.NamedValueChecker
	sqldriver.Pinger
	sqldriver.QueryerContext
	sqldriver.SessionResetter
	sqldriver.Validator
}

type dollarConn struct{ mysqlConn }

func (c dollarConn) ExecContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	return c.mysqlConn.ExecContext(ctx, placeholder.ReplaceAllString(query, "?"), args)
}

func (c dollarConn) QueryContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	return c.mysqlConn.QueryContext(ctx, placeholder.ReplaceAllString(query, "?"), args)
}

func (c dollarConn) PrepareContext(ctx context.Context, query string) (sqldriver.Stmt, error) {
	return c.mysqlConn.PrepareContext(ctx, placeholder.ReplaceAllString(query, "?"))
}
