package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"regexp"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
)

func init() {
	sql.Register("mysql with $1", dollars{})
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it tells of each connection that a test breaks
}

// mysqlServer is one of MariaDB or MySQL.
type mysqlServer interface {
	CreateDatabase(t testing.TB) string
	DSN(database string) string
	Query(t testing.TB, database, statements string) string
	Stop()
	Kill()
	Restart(t testing.TB)
}

// product is MariaDB or MySQL.
type product struct {
	database
	shared func(t testing.TB) mysqlServer
	start  func(t testing.TB, settings ...string) mysqlServer
}

func onMariaDBAndMySQL(t *testing.T, test func(t *testing.T, p product)) {
	t.Run("MariaDB", func(t *testing.T) {
		test(t, product{
			databases["MariaDB"],
			func(t testing.TB) mysqlServer { return mariatest.Shared(t) },
			func(t testing.TB, settings ...string) mysqlServer { return mariatest.Start(t, settings...) },
		})
	})
	t.Run("MySQL", func(t *testing.T) {
		test(t, product{
			databases["MySQL"],
			func(t testing.TB) mysqlServer { return mysqltest.Shared(t) },
			func(t testing.TB, settings ...string) mysqlServer { return mysqltest.Start(t, settings...) },
		})
	})
}

// on opens a database on a server, with parameters of the driver's DSN.
func (p product) on(t *testing.T, s mysqlServer, params string, opts ...dbscope.DBOption) *opened {
	t.Helper()
	p.dsn = func(t *testing.T) string { return s.CreateDatabase(t) + "?" + params }
	return open(t, p.database, opts...)
}

// replica returns a server that has what the primary has, of
// which the application's user may only read: with MySQL another one that is read_only.
func (p product) replica(t *testing.T, primary mysqlServer) mysqlServer {
	if maria, is := primary.(*mariatest.Server); is {
		return maria.Replica(t)
	}
	s := p.start(t)
	s.Query(t, "", "CREATE DATABASE testshop; CREATE TABLE testshop.t (id INTEGER PRIMARY KEY); SET GLOBAL read_only = ON")
	return s
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
