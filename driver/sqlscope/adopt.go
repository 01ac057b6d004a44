package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Adopt implements [driver.Adopter]. It asks the server which database it is where
// tx is not of a pool of this DB.
func (a *adapter) Adopt(ctx context.Context, tx *sql.Tx) (driver.AdoptedConn, error) {
	if tx == nil {
		return nil, errors.New("sqlscope: the transaction is nil")
	}
	pool := poolOf(tx)
	if isShells(pool) {
		return nil, errors.New("sqlscope: the transaction is a scope's own handle: pass the context of the scope instead")
	}
	// database/sql refuses a statement of no database without asking the server.
	if err := tx.StmtContext(context.WithoutCancel(ctx), &sql.Stmt{}).Close(); errors.Is(err, sql.ErrTxDone) {
		return nil, fmt.Errorf("sqlscope: the transaction is over already: %w", err)
	}
	d, err := a.dialectOf(ctx, tx, pool)
	if err != nil {
		return nil, fmt.Errorf("sqlscope: asking which database the transaction is of: %w", hide(err))
	}
	f := &forward{tx: tx}
	c := &adopted{forward: f, conn: &conn{
		RawConn: NewRawConn(f, d.reads()), asks: tx, dialect: d, tx: noTx{},
		cancel: func(error) {}, // what is sent in its time has the context itself
	}}
	if d.ofMySQL() {
		c.watch = c.conn
	}
	return c, nil
}

// dialectOf returns the database that tx is of.
func (a *adapter) dialectOf(ctx context.Context, tx *sql.Tx, pool reflect.Value) (dialect, error) {
	var of *engine
	a.opened.Range(func(db, e any) bool {
		if pool.IsValid() && reflect.ValueOf(db).Pointer() == pool.Pointer() {
			of = e.(*engine)
		}
		return of == nil
	})
	if of != nil {
		if d := dialect(of.dialect.Load()); d != undetected {
			return d, nil
		}
	}
	d, err := detect(ctx, tx)
	switch {
	case err == nil:
	case anyFailure(err, func(f failure) bool { return f.dialect == postgres && f.state != "" }):
		return postgres, nil // one whose transaction is aborted answers no question
	case ctx.Err() != nil || errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, sql.ErrTxDone):
		return d, err
	}
	return d, nil
}

// poolOf returns the *sql.DB that began the transaction, which database/sql tells
// nobody, or no value where a later Go keeps it elsewhere: then it is only not known.
func poolOf(tx *sql.Tx) reflect.Value {
	db := reflect.ValueOf(tx).Elem().FieldByName("db")
	if db.IsValid() && db.Type() == reflect.TypeFor[*sql.DB]() {
		return db
	}
	return reflect.Value{}
}

// isShells reports whether the connections of a *sql.DB are references to sessions.
func isShells(pool reflect.Value) bool {
	if !pool.IsValid() || pool.IsNil() {
		return false
	}
	connector := pool.Elem().FieldByName("connector")
	return connector.IsValid() && connector.Kind() == reflect.Interface && connector.Elem().IsValid() &&
		connector.Elem().Type() == reflect.TypeFor[*handle]()
}

// noTx stands for the driver's transaction of a connection that nobody here ends.
type noTx struct{}

func (noTx) Commit() error   { return errOwners }
func (noTx) Rollback() error { return errOwners }

var errOwners = errors.New("sqlscope: the transaction is other code's, which ends it")

// adopted implements [driver.AdoptedConn] on a *sql.Tx, to which it forwards what is
// sent: database/sql gives nobody the connection of one.
type adopted struct {
	*conn
	forward   *forward
	prevented bool // nothing of the transaction is left, and it cannot be committed
}

// Commit, Rollback and Release are never called, and must not reach the connection.
func (c *adopted) Commit(context.Context) (driver.Outcome, error) { return driver.Unknown, errOwners }

// Rollback is as Commit.
func (c *adopted) Rollback(context.Context) error { return errOwners }

// Release is as Commit.
func (c *adopted) Release(bool) {}

// RollbackTo implements [driver.Conn].
func (c *adopted) RollbackTo(ctx context.Context, name string) error {
	if c.prevented {
		return nil // more than that was undone
	}
	return c.conn.RollbackTo(ctx, name)
}

// The statements that abort a transaction of PostgreSQL for good. The first undoes
// all, the savepoints too, to which the owner could go back otherwise; servers that
// do not know it abort at once. The second has no effect but its error, which shows
// in the server's log.
const (
	undoAll = "ROLLBACK AND CHAIN"
	abort   = "SELECT 'dbscope: this unit of work can only be rolled back'::integer"
)

// noTransaction is PostgreSQL's no_active_sql_transaction.
const noTransaction = "25P01"

// PreventCommit implements [driver.AdoptedConn]. PostgreSQL keeps the transaction,
// aborted, so that no other statement of its owner's is stored either. On other
// databases the *sql.Tx is over, which has the same effect: it runs nothing any more.
func (c *adopted) PreventCommit(ctx context.Context) error {
	if c.prevented {
		return nil
	}
	if c.dialect == postgres && c.late == nil {
		c.undoIn(ctx)
		undone := c.run(ctx, undoAll)
		if anyFailure(undone, func(f failure) bool { return f.state == noTransaction }) {
			return errs.Joined(errEndedBefore, c.rollBack(ctx))
		}
		refused := func(f failure) bool { return f.state != "" && !endsConnection(f.state) }
		if anyFailure(c.run(ctx, abort), refused) {
			c.prevented = true
			return nil
		}
	}
	return c.rollBack(ctx) // also where rows that its owner has open keep it from taking a statement
}

var errEndedBefore = errors.New("it has ended already, by its owner, or with the context that it was begun with")

// rollBack ends the *sql.Tx. From its first moment on its owner cannot commit it, so
// that a driver which does not come back in time is not waited for.
func (c *adopted) rollBack(ctx context.Context) error {
	over := make(chan error, 1)
	go func() {
		err := errPanicked
		defer func() {
			_ = recover()
			over <- err
		}()
		err = c.forward.tx.Rollback()
	}()
	select {
	case err := <-over:
		if errors.Is(err, sql.ErrTxDone) {
			return errEndedBefore
		}
	case <-ctx.Done():
	}
	c.prevented = true
	return nil
}

// Left implements [driver.AdoptedConn]. The statements that were prepared on the
// transaction are closed by its owner's end of it.
func (c *adopted) Left() {
	c.forward.left.Store(true)
	c.mu.Lock()
	prepared := c.stmts
	c.stmts, c.stale = nil, nil
	c.mu.Unlock()
	for st := range prepared {
		st.last.CompareAndSwap(c.RawConn, nil)
	}
}

var (
	_ driver.Adopter[*sql.Tx] = (*adapter)(nil)
	_ Conn                    = (*adopted)(nil)
	_ driver.AdoptedConn      = (*adopted)(nil)
	_ driver.Ender            = (*adopted)(nil)
)
