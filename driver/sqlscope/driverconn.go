package sqlscope

import (
	"context"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Raw calls fn with the driver's own connection, such as *stdlib.Conn of pgx or
// *sqlite3.SQLiteConn, as [sql.Conn.Raw] does, in the session of ctx's scope: what fn
// executes is part of the transaction, which has begun. It is for what a driver has
// beyond database/sql, such as a COPY, functions of SQLite, or pgx itself. fn must not
// end the transaction, nor leave rows or goroutines that use the connection behind.
//
// Raw blocks while fn runs, and until then every other statement of the session is
// [dbscope.ErrSessionBusy]. It returns fn's error, and asks the database what that
// did to the transaction, as after any statement. A savepoint around fn, for two round
// trips, tells whether the transaction is still the same: if not, Raw returns an error,
// nothing follows, and the commit is [dbscope.ErrCommitUnknown]. On databases that are
// not known there is none. When fn panics, or returns driver.ErrBadConn, the connection
// is closed and the transaction lost.
//
// With [dbscope.AllowUnscoped] and no scope it is some connection of the pool. In a
// transaction of [dbscope.DB.Adopt] it is an error, since database/sql shows nobody the
// connection of a [*sql.Tx]. With pgxscope a handle's Conn method is the way.
func (db *DB) Raw(ctx context.Context, fn func(driverConn any) error) (err error) {
	sh := &shell{pool: db.inner.get()}
	s, c, err := sh.enter(ctx, "")
	if err != nil {
		return caused(ctx, err)
	}
	defer sh.letGo()
	done := false
	defer exit(ctx, s, c, "", &done, &err)
	_ = observed(ctx, s, driver.Statement{}) // what it runs is seen by nobody
	err = c.show(ctx, fn)
	done = true
	return err
}

func (c *RawConn) show(ctx context.Context, fn func(driverConn any) error) error {
	if _, is := c.raw.(*forward); is {
		return unsent{errAdopted}
	}
	of, is := c.of.(*conn)
	if !is || of.tx == nil || of.dialect == unknown {
		return fn(c.raw)
	}
	if err := of.run(ctx, "SAVEPOINT "+mark); err != nil {
		return fmt.Errorf("sqlscope: before the function given to Raw: %w", err)
	}
	err := fn(c.raw)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	return of.afterRaw(err, of.run(ctx, "RELEASE SAVEPOINT "+mark))
}

// errAdopted refuses Raw where there is nothing to show.
var errAdopted = errors.New("sqlscope: the transaction was begun by other code, and database/sql shows nobody its connection: " +
	"call Raw on the *sql.Conn that has begun it")

// afterRaw returns the error to report of a function that had the connection. Whether
// the savepoint made before it could be released tells what it did.
func (c *conn) afterRaw(err, gone error) error {
	const what = "the function given to Raw"
	aborted := func(f failure) bool { return f.state == inFailedTransaction }
	switch {
	case gone == nil:
		return err
	case !anyFailure(gone, aborted):
		return c.tell(what, how(gone), errs.Joined(err, gone))
	case err == nil:
		return fmt.Errorf("sqlscope: %s has returned nil, though a statement of it has failed: %w", what, gone)
	}
	return err
}

// inFailedTransaction is PostgreSQL's in_failed_sql_transaction.
const inFailedTransaction = "25P02"

// how tells what became of a transaction whose savepoint could not be released.
func how(gone error) string {
	lacks := func(f failure) bool {
		return f.state == noSavepoint || f.state == noTransaction || f.dialect == mariadb && f.code == errNoSavepoint ||
			f.dialect == sqlite && f.code&0xff == sqliteError
	}
	if anyFailure(gone, lacks) {
		return hasEnded
	}
	return mayHaveEnded
}

// noSavepoint is PostgreSQL's invalid_savepoint_specification.
const noSavepoint = "3B001"
