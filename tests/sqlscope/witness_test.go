package sqlscope_test

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dbscope/dbscope"
)

// It is MySQL perhaps, or PostgreSQL's relative: nobody knows what it executes.
func TestOnAnUnknownDatabaseATextIsRefusedWhereAnyWouldEndTheTransaction(t *testing.T) {
	d, f := openFaulty(t, databases["SQLite"])
	f.at("SELECT sqlite_version()", errUnused, nil)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 1))
		for _, text := range []string{"# \nCOMMIT", "/*! COMMIT */", "/* /* */ */ COMMIT", "\ufeffCOMMIT", "SELECT $$'$$; COMMIT -- '", "SELECT `'`; COMMIT -- '"} {
			_, err := d.ExecContext(ctx, text)
			is(t, err, dbscope.ErrOpenTransaction)
		}
		_, err := d.ExecContext(ctx, "SELECT '; COMMIT'")
		return err
	}))
	want(t, "stored", d.stored(t), 1)
}

// A server that is not known may be one that speaks MySQL's protocol, such as TiDB.
func TestWhatAnUnknownServerOfMySQLsProtocolSaysOfACommitIsBelieved(t *testing.T) {
	for number, want := range map[uint16]error{
		8501: dbscope.ErrCommitUnknown, // it does not know itself
		1053: dbscope.ErrCommitUnknown, // it is shutting down
		9007: dbscope.ErrRolledBack,    // another transaction has written the same
	} {
		d, f := openFaulty(t, databases["SQLite"])
		f.at("SELECT sqlite_version()", errUnused, nil)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 0) }))
		f.at("COMMIT", &mysql.MySQLError{Number: number}, nil)
		attempts := 0
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			attempts++
			return insert(ctx, d, attempts)
		}, dbscope.Retry(dbscope.RetryPolicy{Attempts: 2, MinDelay: time.Nanosecond}))
		is(t, err, want)
		if runs := map[error]int{dbscope.ErrCommitUnknown: 1, dbscope.ErrRolledBack: 2}[want]; attempts != runs {
			t.Errorf("%d: %d attempts, want %d", number, attempts, runs)
		}
	}
}

func TestTheWitnessOnMariaDBAndMySQLMayFailWithoutHarm(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d, f := openFaulty(t, p.database)
		_, err := d.other.Exec("CREATE PROCEDURE good() UPDATE t SET parent = NULL")
		ok(t, err)
		unit := func(said func(err error)) error {
			return dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				_, err := d.ExecContext(ctx, "CALL good()")
				said(err)
				return err
			})
		}
		for _, fault := range []error{errUnused, sqldriver.ErrBadConn} {
			for _, before := range []string{"SHOW SESSION STATUS", "SAVEPOINT dbscope_witness"} {
				f.at(before, fault, nil)
				err := unit(func(err error) {
					if err == nil {
						t.Error("the statement ran without its witness")
					}
				})
				if err == nil || errors.Is(err, dbscope.ErrCommitUnknown) {
					t.Errorf("error is %v", err)
				}
				want(t, "stored", d.stored(t))
			}
			// Whether the statement has committed is not known then.
			f.at("RELEASE SAVEPOINT dbscope_witness", fault, nil)
			may(t, unit(func(err error) { may(t, err) }))
			want(t, "stored", d.stored(t))
		}
		n := f.count("CALL good()")
		f.skip("CALL good()") // which runs prepared then
		ok(t, unit(func(err error) { ok(t, err) }))
		want(t, "stored", d.stored(t), 1)
		if f.count("CALL good()") == n {
			t.Error("it was not executed")
		}
	})
}

// What a statement that only could have ended the transaction costs.
func TestOnMariaDBAndMySQLOnlyWhatIsSuspiciousIsWatched(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d, f := openFaulty(t, p.database)
		_, err := d.other.Exec("CREATE PROCEDURE good() UPDATE t SET parent = NULL")
		ok(t, err)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			for _, text := range []string{"SELECT 1", "SET @a = ';'", "UPDATE t SET parent = NULL", "SAVEPOINT a", "ROLLBACK TO a", "(SELECT 1)", "# x\nDELETE FROM t"} {
				_, err := d.ExecContext(ctx, text)
				ok(t, err)
			}
			if n := f.count("SAVEPOINT dbscope_") + f.count("SHOW SESSION STATUS"); n != 0 {
				t.Errorf("%d statements were sent besides", n)
			}
			for range 3 {
				_, err := d.ExecContext(ctx, "CALL good()")
				ok(t, err)
			}
			if s, r, q := f.count("SAVEPOINT dbscope_"), f.count("RELEASE SAVEPOINT dbscope_"), f.count("SHOW SESSION STATUS"); s != 3 || r != 3 || q != 1 {
				t.Errorf("%d savepoints, %d releases and %d questions", s, r, q)
			}
			return nil
		}))
	})
}
