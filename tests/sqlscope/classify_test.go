package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/dbscope/dbscope"
)

// An application's errors, with methods and fields that a driver's errors have.
type (
	withCode struct {
		code int
		error
	}
	withState struct {
		state string
		error
	}
	// MySQLError has the name of the one of go-sql-driver.
	MySQLError struct {
		Number uint16
		error
	}
	// Error has the name of the one of SQLite's drivers, and a field of it.
	Error struct {
		Code int
		error
	}
)

func (e withCode) Code() int         { return e.code }
func (e withCode) Unwrap() error     { return e.error }
func (e withState) SQLState() string { return e.state }
func (e withState) Unwrap() error    { return e.error }
func (e MySQLError) Unwrap() error   { return e.error }
func (e Error) Unwrap() error        { return e.error }

// wrapped returns an error within the application's own, which say otherwise.
func wrapped(err error) map[string]error {
	return map[string]error{
		"alone":                 err,
		"with text":             fmt.Errorf("storing: %w", err),
		"with a code":           withCode{1, err},
		"with a SQLSTATE":       withState{"23505", err},
		"with a number":         &MySQLError{1062, err},
		"with a field":          &Error{1, err},
		"beside another one":    errors.Join(withCode{1, errStop}, withState{"23505", errStop}, errStop, err),
		"beside the database's": errors.Join(&pgconn.PgError{Code: "25P02"}, &pq.Error{Code: "25P02"}, &mysql.MySQLError{Number: 1062}, err),
		"deep inside":           fmt.Errorf("a: %w", errors.Join(errStop, withCode{1, fmt.Errorf("%w, %w", errStop, withState{"", err})})),
	}
}

// locked returns SQLite's error for a database that another one writes to.
func locked(t *testing.T) error {
	t.Helper()
	dsn := "file:" + filepath.Join(t.TempDir(), "locked.db") + "?_txlock=immediate"
	holder, err := sql.Open("sqlite", dsn)
	ok(t, err)
	tx, err := holder.Begin()
	ok(t, err)
	_, busy := holder.Begin()
	if busy == nil {
		t.Fatal("two write at once")
	}
	ok(t, errors.Join(tx.Rollback(), holder.Close()))
	return busy
}

// attempts returns how often a unit that fails with the error is run.
func attempts(t *testing.T, d *opened, failure error) (n int) {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		n++
		ok(t, read(d.QueryContext(ctx, "SELECT count(*) FROM t")))
		return failure
	}, dbscope.Retry(dbscope.RetryPolicy{Attempts: 2, MinDelay: time.Nanosecond}))
	is(t, err, failure)
	return n
}

func TestAUnitIsRunAgainForADatabasesOwnErrorHoweverItIsWrapped(t *testing.T) {
	busy := locked(t)
	onEach(t, func(t *testing.T, d *opened) {
		failures := map[string]error{
			"a serialization failure by pgx": &pgconn.PgError{Code: "40001"},
			"a deadlock by pgx":              &pgconn.PgError{Code: "40P01"},
		}
		if !d.native {
			failures["a serialization failure by pq"] = &pq.Error{Code: "40001"}
			failures["SQLITE_BUSY"] = busy
			for _, number := range []uint16{1020, 1205, 1213, 1412, 1615, 3101, 8002, 8022, 8028, 9007} {
				failures[fmt.Sprint("error ", number)] = &mysql.MySQLError{Number: number}
			}
		}
		for what, failure := range failures {
			for how, failure := range wrapped(failure) {
				if n := attempts(t, d, failure); n != 2 {
					t.Errorf("%s %s: %d attempts", what, how, n)
				}
			}
		}
	})
}

func TestAUnitIsNotRunAgainForAnErrorThatOnlyLooksLikeADatabases(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for what, failure := range map[string]error{
			"code 5":             withCode{5, errStop},
			"code 6":             withCode{6, errStop},
			"code 261":           withCode{261, errStop},
			"SQLSTATE 40001":     withState{"40001", errStop},
			"number 1213":        &MySQLError{1213, errStop},
			"field 5":            &Error{5, errStop},
			"SQLite's text":      errors.New("the database is locked by an administrator"),
			"a constraint":       &pgconn.PgError{Code: "23505"},
			"a constraint of pq": &pq.Error{Code: "23505"},
			"a duplicate":        &mysql.MySQLError{Number: 1062},
			"lock_not_available": &pgconn.PgError{Code: "55P03"},
			"nil of pgx":         (*nilError)(nil),
		} {
			if n := attempts(t, d, failure); n != 1 {
				t.Errorf("%s: %d attempts", what, n)
			}
		}
	})
}

// nilError is an error whose value may be nil.
type nilError struct{ Number uint16 }

func (*nilError) Error() string { return "nil" }
