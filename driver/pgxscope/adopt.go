package pgxscope

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// Adopt implements [driver.Adopter]. It asks nobody: tx is one of PostgreSQL.
func (a *adapter) Adopt(_ context.Context, of pgx.Tx) (driver.AdoptedConn, error) {
	if err := adoptable(of); err != nil {
		return nil, fmt.Errorf("pgxscope: %w", err)
	}
	raw := of.Conn()
	w, _ := raw.PgConn().CustomData()[wireKey].(*wire)
	if w == nil {
		w = &wire{}
	}
	w.behind = behind{begun: true}
	c := &adopted{tx: of}
	c.conn = &conn{Conn: raw, wire: w, separate: a.separate || w.in == nil, begin: "its owner's", adopted: c}
	return c, nil
}

// adoptable says why a transaction cannot be adopted, where that shows.
func adoptable(of pgx.Tx) error {
	v := reflect.ValueOf(of)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("the transaction is nil")
	}
	for v.IsValid() {
		switch name := v.Type().String(); {
		case v.Type() == reflect.TypeFor[*tx]():
			return errors.New("the transaction is a scope's own handle: pass the context of the scope instead")
		case name == "*pgx.dbSimulatedNestedTx":
			return errors.New("the transaction is nested in another one, whose end decides about it: adopt that one, " +
				"and call Atomic with the context for what may fail alone")
		}
		v = wrapped(v)
	}
	switch raw := of.Conn(); {
	case raw == nil:
		return errors.New("the transaction has no connection")
	case isOver(of) || !raw.IsClosed() && raw.PgConn().TxStatus() == 'I':
		return fmt.Errorf("the transaction is over already: %w", pgx.ErrTxClosed)
	case raw.IsClosed():
		return errors.New("the connection of the transaction is closed")
	}
	return nil
}

// wrapped returns the transaction in a struct around one, such as pgxpool's and those
// of tracers, or no value.
func wrapped(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == reflect.TypeFor[pgx.Tx]() {
			return f.Elem()
		}
	}
	return reflect.Value{}
}

var nothing = &pgx.Batch{}

// isOver reports whether its owner has ended a transaction: then its connection may
// be somebody else's. A batch without statements sends nothing.
func isOver(of pgx.Tx) bool {
	return errors.Is(of.SendBatch(context.Background(), nothing).Close(), pgx.ErrTxClosed)
}

// adopted implements [driver.AdoptedConn] on the connection of a transaction that
// other code has begun. Before anything is sent it makes sure that the connection is
// still that transaction's.
type adopted struct {
	*conn
	tx        pgx.Tx
	prevented bool  // nothing of the transaction is left, and it cannot be committed
	over      bool  // its owner has ended it, and the scope has come to see that
	ended     error // by a statement
	left      atomic.Bool
}

var (
	_ driver.Adopter[pgx.Tx] = (*adapter)(nil)
	_ driver.AdoptedConn     = (*adopted)(nil)
	_ driver.Ender           = (*adopted)(nil)
)

var (
	errNoSQL = fmt.Errorf("pgxscope: SQL() cannot run statements in a transaction that was given to Adopt, "+
		"whose connection is none of database/sql: call the methods of the DB, or of the handle that Session returns: %w: %w",
		dbscope.ErrOpenTransaction, driver.ErrNotSent)
	errLeft   = fmt.Errorf("pgxscope: the transaction was ended by the code that began it: %w", pgx.ErrTxClosed)
	errOwners = errors.New("pgxscope: the transaction is other code's, which ends it")
)

// gone reports whether the connection may be somebody else's.
func (a *adopted) gone() bool { return a.over || a.left.Load() }

// look returns an error where nothing may be sent any more.
func (a *adopted) look() error {
	a.over = a.over || !a.left.Load() && isOver(a.tx)
	if a.gone() {
		return errLeft
	}
	if !a.prevented && !a.IsClosed() && a.PgConn().TxStatus() == 'I' && a.Ended() == nil {
		a.ended = fmt.Errorf("pgxscope: a statement: %w: use Commit and Rollback of the transaction's owner", driver.ErrEnded)
	}
	return nil
}

// Commit, Rollback and Release are never called, and must not reach the connection.
func (a *adopted) Commit(context.Context) (driver.Outcome, error) { return driver.Unknown, errOwners }

// Rollback is as Commit.
func (a *adopted) Rollback(context.Context) error { return errOwners }

// Release is as Commit.
func (a *adopted) Release(bool) {}

// Savepoint implements [driver.Conn]. It is sent now where it would not ride: the next
// statement may be the owner's.
func (a *adopted) Savepoint(ctx context.Context, name string) error {
	if err := a.look(); err != nil {
		return err
	}
	if err := a.conn.Savepoint(ctx, name); err != nil {
		return err
	}
	if a.separate || a.PgConn().TxStatus() != 'T' {
		return a.flush(ctx)
	}
	return nil
}

// RollbackTo implements [driver.Conn].
func (a *adopted) RollbackTo(ctx context.Context, name string) error {
	if a.prevented {
		return nil // more than that was undone
	}
	if err := a.look(); err != nil {
		return err
	}
	return a.conn.RollbackTo(ctx, name)
}

// ReleaseSavepoint implements [driver.Conn].
func (a *adopted) ReleaseSavepoint(ctx context.Context, name string) error {
	if err := a.look(); err != nil {
		return err
	}
	return a.conn.ReleaseSavepoint(ctx, name)
}

// abort undoes all, the savepoints too, to which the owner could go back otherwise,
// and then aborts the transaction. Servers before PostgreSQL 12 do not know the first
// statement, and so abort at once. The second has no effect but its error, which
// shows in the server's log.
const abort = "rollback and chain; select 'dbscope: this unit of work can only be rolled back'::integer"

var errEndedBefore = errors.New("it has ended already")

// PreventCommit implements [driver.AdoptedConn]. The server keeps the transaction,
// aborted, so that no other statement of its owner's is stored either. Where it cannot
// be made to, since rows that the owner has open are in the way, the connection is
// closed.
func (a *adopted) PreventCommit(ctx context.Context) error {
	switch {
	case a.prevented:
		return nil
	case a.look() != nil:
		return errEndedBefore
	}
	a.wire.take()
	switch {
	case a.IsClosed():
	case a.ended != nil || a.PgConn().TxStatus() == 'I':
		a.abandon() // what its owner did next would be stored at once
		return errEndedBefore
	default:
		free := a.bound(ctx)
		a.wire.behind.own = true
		_, _ = a.PgConn().Exec(context.WithoutCancel(ctx), abort).ReadAll() // the server's state tells
		a.wire.behind.ownOver(a.PgConn().TxStatus())
		free()
		if a.IsClosed() || a.PgConn().TxStatus() != 'E' || a.PgConn().IsBusy() {
			a.abandon()
		}
	}
	a.prevented = true
	return nil
}

// Left implements [driver.AdoptedConn].
func (a *adopted) Left() { a.left.Store(true) }
