package lexer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it tells of each connection that a test breaks
	goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m))))
}

// database runs texts in units, and looks from outside.
type database struct {
	exec  func(ctx context.Context, text string) error
	other *sql.DB
	last  atomic.Int64 // id that was used
}

func FuzzSQLite(f *testing.F) {
	fuzz(f, func() *database {
		dsn := "file:" + filepath.Join(f.TempDir(), "test.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate"
		return bySQL(f, "sqlite", dsn)
	})
}

func FuzzPostgreSQL(f *testing.F) {
	fuzz(f, func() *database { return bySQL(f, "pgx", pgtest.Shared(f).CreateDatabase(f)) })
}

// With the setting off, a backslash takes the meaning from a quote.
func FuzzPostgreSQLWithEscapes(f *testing.F) {
	fuzz(f, func() *database {
		dsn := pgtest.Shared(f).CreateDatabase(f)
		sign := " "
		if strings.Contains(dsn, "://") {
			sign = "?"
			if strings.Contains(dsn, "?") {
				sign = "&"
			}
		}
		return bySQL(f, "postgres", dsn+sign+"standard_conforming_strings=off")
	})
}

func FuzzPgxscope(f *testing.F) {
	fuzz(f, func() *database {
		dsn := pgtest.Shared(f).CreateDatabase(f)
		db := pgxscope.Open(dsn)
		f.Cleanup(func() { _ = db.Close() })
		d := prepare(f, "pgx", dsn)
		d.exec = func(ctx context.Context, text string) error { _, err := db.Exec(ctx, text); return err }
		return d
	})
}

func FuzzMariaDB(f *testing.F) { fuzzMariaDB(f, "") }

func FuzzMySQL(f *testing.F) {
	mysqltest.Have(f)
	fuzzOfMySQL(f, func() string { return mysqltest.Shared(f).CreateDatabase(f) }, "")
}

func FuzzMariaDBWithoutEscapes(f *testing.F) {
	fuzzMariaDB(f, "&sql_mode='NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
}

func FuzzMariaDBOracle(f *testing.F) { fuzzMariaDB(f, "&sql_mode='ORACLE'") }

func fuzzMariaDB(f *testing.F, params string) {
	fuzzOfMySQL(f, func() string { return mariatest.Shared(f).CreateDatabase(f) }, params)
}

func fuzzOfMySQL(f *testing.F, create func() string, params string) {
	fuzz(f, func() *database {
		d := bySQL(f, "mysql", create()+"?multiStatements=true"+params)
		for _, query := range []string{
			"CREATE PROCEDURE again() BEGIN COMMIT; START TRANSACTION; END",
			"CREATE PROCEDURE undoes() ROLLBACK AND CHAIN",
			"CREATE PROCEDURE good() DELETE FROM other",
		} {
			if _, err := d.other.Exec(query); err != nil && !strings.Contains(params, "ORACLE") {
				f.Fatal(err)
			}
		}
		return d
	})
}

// bySQL runs texts through sqlscope.
func bySQL(f *testing.F, driver, dsn string) *database {
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		pool, err := sql.Open(driver, dsn)
		if err == nil {
			pool.SetConnMaxLifetime(time.Second) // so that no text changes a connection for long
		}
		return pool, err
	})
	f.Cleanup(func() { _ = db.Close() })
	d := prepare(f, driver, dsn)
	d.exec = func(ctx context.Context, text string) error { _, err := db.ExecContext(ctx, text); return err }
	return d
}

func prepare(f *testing.F, driver, dsn string) *database {
	other, err := sql.Open(driver, dsn)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = other.Close() })
	for _, query := range []string{"CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE other (id INTEGER)"} {
		if _, err := other.Exec(query); err != nil {
			f.Fatal(err)
		}
	}
	return &database{other: other}
}

// fuzz runs programs on the database that open makes.
func fuzz(f *testing.F, open func() *database) {
	for _, p := range programs(300) {
		f.Add(p)
	}
	d := open()
	f.Fuzz(func(t *testing.T, program []byte) {
		if text := text(program); len(program) <= 120 {
			d.unit(t, text, nil)
			d.unit(t, text, errStop)
		}
	})
}

var errStop = errors.New("stop")

// unit runs one with the text in its middle, whose error it ignores, and
// compares what is stored with what the unit says.
func (d *database) unit(t *testing.T, text string, end error) {
	last := d.last.Add(2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var said error
	want := 1
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		if err := d.exec(ctx, insert(last-1)); err != nil {
			return fmt.Errorf("the first: %w", err)
		}
		said = d.exec(ctx, text)
		if d.exec(ctx, insert(last)) == nil {
			want++
		}
		return end
	})
	if ctx.Err() != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var stored int
	if err := d.other.QueryRowContext(t.Context(), fmt.Sprintf("SELECT COUNT(*) FROM t WHERE id >= %d", last-1)).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	switch {
	case err == nil && stored != want:
		t.Errorf("%q, which said %v: the unit was committed, and %d of %d rows are stored", text, said, stored, want)
	case err != nil && stored > 0 && !tells(err):
		t.Errorf("%q, which said %v: %d rows are stored of a unit that says %v", text, said, stored, err)
	}
}

func insert(id int64) string { return fmt.Sprintf("INSERT INTO t (id) VALUES (%d)", id) }

// tells reports whether the error of a unit says that it may be stored.
func tells(err error) bool {
	return errors.Is(err, dbscope.ErrCommitUnknown) || strings.Contains(err.Error(), "committed the transaction")
}
