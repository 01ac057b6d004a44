package sqlscope_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// elsewhereVariable names a server of PostgreSQL's or MySQL's protocol that somebody
// else runs, for those that the tests cannot start. It is one more of the databases then:
//
//	DBSCOPE_ELSEWHERE='root@tcp(127.0.0.1:4000)/' go test -v -run '/elsewhere' ./tests/sqlscope
//	DBSCOPE_ELSEWHERE='postgres://root@127.0.0.1:26257/defaultdb' go test -v -run '/elsewhere' ./tests/sqlscope
//
// The user must be allowed to create databases, and to drop them again.
const elsewhereVariable = "DBSCOPE_ELSEWHERE"

func init() {
	dsn := os.Getenv(elsewhereVariable)
	switch {
	case dsn == "":
	case strings.HasPrefix(dsn, "postgres"):
		databases["elsewhere"] = database{driver: "pgx", postgres: true, dsn: func(t *testing.T) string {
			address, err := url.Parse(dsn)
			ok(t, err)
			address.Path = "/" + elsewhere(t, "pgx", dsn)
			return address.String()
		}}
	default:
		databases["elsewhere"] = database{driver: "mysql with $1", ofMySQL: true, dsn: func(t *testing.T) string {
			config, err := mysql.ParseDSN(dsn)
			ok(t, err)
			config.DBName = elsewhere(t, "mysql", dsn)
			return config.FormatDSN()
		}}
	}
}

var elsewheres atomic.Int64

// elsewhere creates a database and returns its name.
func elsewhere(t *testing.T, driver, dsn string) string {
	t.Helper()
	pool, err := sql.Open(driver, dsn)
	ok(t, err)
	name := fmt.Sprintf("test_%d_%d", time.Now().Unix(), elsewheres.Add(1))
	_, err = pool.Exec("CREATE DATABASE " + name)
	ok(t, err)
	t.Cleanup(func() {
		if _, err := pool.Exec("DROP DATABASE " + name); err != nil {
			t.Errorf("the database %s is left: %v", name, err)
		}
		ok(t, pool.Close())
	})
	return name
}
