package sqlscope

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/pgerror"
)

// libraries are the modules whose errors are believed, and the database that
// they talk to. An error of any other type says nothing about a database, even
// if it has a method Code or a text like SQLite's: it may be the application's.
// Versions of a module, and packages in it, count as the module.
var libraries = map[string]dialect{
	"github.com/jackc/pgx":           postgres,
	"github.com/jackc/pgconn":        postgres, // pgx v4
	"github.com/lib/pq":              postgres,
	"github.com/go-sql-driver/mysql": mariadb, // and MySQL: the same errors
	"modernc.org/sqlite":             sqlite,
	"github.com/glebarez/go-sqlite":  sqlite,
	"github.com/mattn/go-sqlite3":    sqlite,
	"github.com/ncruces/go-sqlite3":  sqlite,
}

// failure is what an error of a database library tells. All other errors tell
// nothing: theirs has no state and no code.
type failure struct {
	dialect dialect
	state   string // PostgreSQL's SQLSTATE
	routine string // the function of PostgreSQL's source that raised it
	code    int    // the number of MariaDB and MySQL, or SQLite's result code with its higher bits
}

// failureOf reads one error, without what it wraps. This package imports no
// driver, so it reads methods and fields by their names.
func failureOf(err error) failure {
	v := reflect.ValueOf(err)
	value := reflect.Indirect(v)
	if !value.IsValid() {
		return failure{} // a nil pointer in an error
	}
	f := failure{dialect: libraryOf(value.Type().PkgPath())}
	switch f.dialect {
	case postgres:
		if e, ok := err.(interface{ SQLState() string }); ok {
			f.state = e.SQLState()
		}
		if routine := field(value, "Routine"); routine.IsValid() {
			f.routine = routine.String()
		}
	case mariadb:
		f.code = integer(field(value, "Number"))
	case sqlite:
		code := v.MethodByName("Code")
		if code.IsValid() && code.Type().NumIn() == 0 && code.Type().NumOut() == 1 {
			f.code = integer(code.Call(nil)[0])
		} else {
			f.code = integer(field(value, "Code"))
		}
	}
	return f
}

// libraryOf returns the database of the library that a package belongs to.
func libraryOf(path string) dialect {
	if _, vendored, ok := strings.Cut(path, "/vendor/"); ok {
		path = vendored
	}
	for library, d := range libraries {
		if path == library || strings.HasPrefix(path, library+"/") {
			return d
		}
	}
	return unknown
}

func field(v reflect.Value, name string) reflect.Value {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func integer(v reflect.Value) int {
	switch {
	case !v.IsValid():
	case v.CanInt():
		return int(v.Int())
	case v.CanUint():
		return int(v.Uint()) //nolint:gosec // codes are small
	}
	return 0
}

// anyFailure reports whether the predicate holds for a failure that err tells
// of, by itself or by what it wraps.
func anyFailure(err error, holds func(failure) bool) bool {
	return driver.AnyError(err, func(err error) bool { return holds(failureOf(err)) })
}

// number returns the number of a server error of MariaDB or MySQL, or 0.
func number(err error) int {
	found := 0
	anyFailure(err, func(f failure) bool {
		if f.dialect == mariadb {
			found = f.code
		}
		return found != 0
	})
	return found
}

// SQLite's result codes, without the higher bits, which say more.
const (
	sqliteError    = 1 // of a statement, such as the name of a savepoint that is not there
	sqliteBusy     = 5 // another connection has the lock
	sqliteLocked   = 6 // the same, where connections share a cache
	sqliteReadOnly = 8
)

// transient reports whether an error tells of a failure that need not happen
// again. A statement that has committed must not be done again.
func transient(err error) bool {
	return anyFailure(err, failure.transient) && !errors.As(err, new(*endedError))
}

func (f failure) transient() bool {
	switch f.dialect {
	case postgres:
		return pgerror.Transient(f.state, f.routine)
	case mariadb:
		return slices.Contains([]int{
			errDeadlock, errLockWaitTimeout, errChanged, errTableChanged, errPrepareAgain, errUndoneByReplication,
		}, f.code) || slices.Contains(errorsOfTiDB, f.code)
	case sqlite:
		return f.code&0xff == sqliteBusy || f.code&0xff == sqliteLocked
	}
	return false
}

// writeRefused reports whether an error tells of a read-only transaction or
// server.
func writeRefused(err error) bool {
	return driver.AnyError(err, func(err error) bool {
		switch f := failureOf(err); f.dialect {
		case postgres:
			return pgerror.WriteRefused(f.state)
		case sqlite:
			return f.code&0xff == sqliteReadOnly
		case mariadb:
			text := err.Error()
			return f.code == errReadOnlyTransaction || f.code == errReadOnlyMode || // other options have errOption too
				f.code == errOption && (strings.Contains(text, "read-only") || strings.Contains(text, "read_only"))
		}
		return false
	})
}
