package dbscope

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// Adopt makes a transaction that other code has begun the session of a new scope:
// what is called with the context that it returns joins the transaction. Whoever began
// it ends it, and calls ended right after, with what became of it. So a service can
// be moved to dbscope function by function:
//
//	tx, err := pool.BeginTx(ctx, nil)
//	...
//	defer tx.Rollback()
//	joined, ended, err := shop.Adopt(ctx, tx)
//	...
//	err = placeOrder(joined, order) // knows nothing of tx
//	if err == nil {
//		err = tx.Commit()
//	}
//	err = errors.Join(err, ended(ctx, err == nil))
//
// No other goroutine may use tx while a statement of the scope runs. Of what a scope
// can do, these are refused, with [ErrOpenTransaction]: [BeforeCommit] and
// [DB.BeforeCommit], since nobody here sees the commit come, [DB.Commit] and
// [DB.Rollback] of this DB, and [Scope.Commit] and [Scope.Rollback]. [DB.Atomic] is a
// savepoint. Nested transactions with options are refused too, since tx's are not known.
//
// Where only a rollback is possible, by a failed statement, [MarkRollback] or a
// [Join], the transaction is made unable to commit at once; statements and
// ended(ctx, true) then return [ErrRolledBack]. What the owner's own Commit says is in
// docs/adopt.md.
//
// ended runs the after-hooks, as those of a scope: AfterCommit's only where committed
// is true and nothing stood in the way. It ends the transactions of other databases
// that were used in the scope in the same way, and returns a [*CommitError] where that
// fails. It blocks while it does. A second call is an error. Where ended is never
// called the hooks do not run, the handle of the scope is not let go, and a line in
// the log says so once ended is garbage.
//
// The DB's [Settings] are made in the transaction, and stay until its end. Adopt itself
// does not block, except where that takes a round trip, or where the adapter has to ask
// the server which database it is. Errors: an adapter, or an option of the DB such as
// [BeforeEachCommit], that does not go with it.
func (db *DB[H]) Adopt(ctx context.Context, tx H) (joined context.Context, ended func(ctx context.Context, committed bool) error, err error) {
	conn, err := db.adopt(ctx, tx)
	if err != nil {
		return nil, nil, db.core.Errorf("Adopt: %w", err)
	}
	joined, s := Begin(ctx)
	s.adopted = &db.core.Database
	ss, err := s.session(&db.core.Database)
	if err != nil {
		return nil, nil, err
	}
	if err := ss.Adopt(joined, conn); err != nil {
		return nil, nil, errs.Joined(db.core.Errorf("Adopt: %w", err), s.End(joined))
	}
	r := &report{of: ss}
	forgotten := runtime.AddCleanup(r, func(name string) {
		slog.Error("dbscope: " + name + ": a transaction that was given to Adopt was never reported as ended: call the function that Adopt returned")
	}, db.core.Name)
	return joined, func(ctx context.Context, committed bool) error {
		forgotten.Stop()
		if r.made.Swap(true) {
			return db.core.Errorf("Adopt: the end of the transaction was reported before")
		}
		return s.ownerEnded(ctx, r.of, committed)
	}, nil
}

// report is garbage once nobody has the function any more that ends an adopted
// transaction's scope. The scope itself may live on, with its handle's goroutine.
type report struct {
	made atomic.Bool
	of   *session.Session // a pointer, since what has none shares its memory with other garbage
}

func (db *DB[H]) adopt(ctx context.Context, tx H) (driver.AdoptedConn, error) {
	a, can := db.adapter.(driver.Adopter[H])
	switch {
	case !can:
		return nil, errors.New("the adapter of this DB cannot do it")
	case any(tx) == nil:
		return nil, errors.New("the transaction is nil")
	case db.core.BeforeCommit != nil:
		return nil, errors.New("the DB has the option BeforeEachCommit, and nobody here sees the commit come: open a DB without it")
	}
	return a.Adopt(ctx, tx)
}

// ownerEnded ends the scope of a transaction that its owner has ended.
func (s *Scope) ownerEnded(ctx context.Context, ss *session.Session, committed bool) error {
	commits, broken, over := ss.OwnerEnded(committed)
	if over != nil {
		return over
	}
	err := finish(ctx, session.WishTo(commits), isOver, s)
	if committed {
		err = errs.Joined(broken, err)
	}
	return err
}
