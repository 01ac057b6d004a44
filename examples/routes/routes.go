package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// routes are functions of a context. That each runs in a request's scope,
// which commits or rolls back at the end, is the middleware's business.
type routes struct{ db *sqlscope.DB }

func (rt routes) all() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"atomic_base_example":             rt.atomicBaseExample,
		"atomic_and_previous_transaction": rt.atomicAndPreviousTransaction,
		"simple_usage":                    rt.simpleUsage,
		"early_commit":                    rt.earlyCommit,
		"concurrent_queries":              rt.concurrentQueries,
		"early_rollback":                  rt.earlyRollback,
		"auto_rollback_by_exception":      rt.autoRollbackByException,
		"auto_rollback_by_status_code":    rt.autoRollbackByStatusCode,
		"early_connection_close":          rt.earlyConnectionClose,
	}
}

// simpleUsage leaves 1 row.
func (rt routes) simpleUsage(ctx context.Context) error {
	// No connection yet. Whoever asks again in this request gets the same one.
	tx, err := rt.db.Session(ctx)
	if err != nil {
		return err
	}
	// Now there is a connection, with a transaction. The middleware commits it.
	_, err = tx.ExecContext(ctx, `insert into example (text) values ($1)`, "simple")
	return err
}

// insert is what the other routes share. It does not know whose transaction
// it is part of.
func (rt routes) insert(ctx context.Context) error {
	_, err := rt.db.ExecContext(ctx, `insert into example (text) values ($1)`, "a row")
	return err
}

// atomicBaseExample leaves 2 rows: one that is stored at once, by a function
// that otherwise waits for the end of the request, and one of the request.
func (rt routes) atomicBaseExample(ctx context.Context) error {
	return inOrder(ctx,
		rt.insertAtOnce,
		rt.insert, // a new transaction on the same connection
	)
}

// insertAtOnce commits what is open along with its own row.
func (rt routes) insertAtOnce(ctx context.Context) error {
	return rt.db.Atomic(ctx, rt.insert, dbscope.ContinueOpen)
}

// atomicAndPreviousTransaction leaves 5 rows and fails in the end: it shows
// what a block that is to be stored at once can do with a transaction that is
// open already.
func (rt routes) atomicAndPreviousTransaction(ctx context.Context) error {
	return inOrder(ctx,
		// Rows 1 and 2.
		rt.insert,
		rt.atomic(rt.insert, dbscope.CommitOpen),

		// Row 3; the first insert is undone.
		rt.insert,
		rt.atomic(rt.insert, dbscope.RollbackOpen),

		// Rows 4 and 5.
		rt.insert,
		rt.atomic(rt.insert, dbscope.ContinueOpen),

		// A failure: both inserts are undone.
		rt.insert,
		rt.failingBlock,

		// Refused, and undone with the request.
		rt.insert,
		rt.atomic(rt.insert, dbscope.RefuseOpen),
	)
}

func (rt routes) atomic(fn func(context.Context) error, mode dbscope.AtomicOption) func(context.Context) error {
	return func(ctx context.Context) error { return rt.db.Atomic(ctx, fn, mode) }
}

// inOrder stops at the first error.
func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

var errOnPurpose = errors.New("on purpose")

func (rt routes) insertAndFail(ctx context.Context) error {
	return inOrder(ctx, rt.insert, func(context.Context) error { return errOnPurpose })
}

// failingBlock succeeds where the block fails as it should.
func (rt routes) failingBlock(ctx context.Context) error {
	err := rt.db.Atomic(ctx, rt.insertAndFail, dbscope.ContinueOpen)
	if !errors.Is(err, errOnPurpose) {
		return fmt.Errorf("the block was to fail on purpose: %w", err)
	}
	return nil
}

// earlyCommit leaves 4 rows.
func (rt routes) earlyCommit(ctx context.Context) error {
	return inOrder(ctx,
		rt.insertAndCommitTheHandle,
		rt.insertAndRelease,
		// A new connection and a new transaction, which both inserts share
		// and the middleware commits.
		rt.insert,
		rt.insert,
	)
}

// insertAndCommitTheHandle commits as a user of plain database/sql would. The
// next statement of the request begins a new transaction.
func (rt routes) insertAndCommitTheHandle(ctx context.Context) error {
	if err := rt.insert(ctx); err != nil {
		return err
	}
	tx, err := rt.db.Session(ctx)
	if err != nil {
		return err
	}
	return tx.Commit()
}

// insertAndRelease also gives the connection back.
func (rt routes) insertAndRelease(ctx context.Context) error {
	return inOrder(ctx, rt.insert, rt.db.Commit, rt.db.Release)
}

// concurrentQueries leaves 5 rows. Goroutines cannot share a session, so each
// has one of its own, in one of the ways there are; one of them fails, and
// undoes only its own work.
func (rt routes) concurrentQueries(ctx context.Context) error {
	units := []func(context.Context) error{
		rt.insertInOwnScope,
		rt.insertInOwnScopeAndRelease,
		rt.insertDetached,
		rt.insertThroughThePool,
		rt.failInOwnScope,
	}
	errs := make([]error, len(units))
	var wg sync.WaitGroup
	for i, unit := range units {
		wg.Go(func() { errs[i] = unit(ctx) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// The request's own session could have been used meanwhile, by this
	// goroutine. But SQLite has one writer at a time: the others would have
	// waited for the end of the request, and the request for them.
	return rt.insert(ctx)
}

func (rt routes) insertInOwnScope(ctx context.Context) error {
	return dbscope.Run(ctx, rt.insert)
}

func (rt routes) insertInOwnScopeAndRelease(ctx context.Context) error {
	return dbscope.Run(ctx, rt.insertAndRelease)
}

// insertDetached gets the handle along with a scope of its own.
func (rt routes) insertDetached(ctx context.Context) error {
	return rt.db.Detached(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into example (text) values ($1)`, "detached")
		return err
	})
}

// insertThroughThePool has nothing to do with scopes.
func (rt routes) insertThroughThePool(ctx context.Context) error {
	pool, err := rt.db.Engine(ctx)
	if err != nil {
		return err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if _, err := tx.ExecContext(ctx, `insert into example (text) values ($1)`, "pool"); err != nil {
		return err
	}
	return tx.Commit()
}

// failInOwnScope succeeds where its unit fails as it should.
func (rt routes) failInOwnScope(ctx context.Context) error {
	err := dbscope.Run(ctx, rt.insertAndFail)
	if !errors.Is(err, errOnPurpose) {
		return fmt.Errorf("the unit was to fail on purpose: %w", err)
	}
	return nil
}

// earlyRollback leaves no row.
func (rt routes) earlyRollback(ctx context.Context) error {
	// The last insert is undone in the handle's own way, which is as good.
	if err := inOrder(ctx, rt.insert, rt.db.Rollback, rt.insert); err != nil {
		return err
	}
	tx, err := rt.db.Session(ctx)
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// autoRollbackByException leaves no row: a panic rolls back. It goes on to
// net/http, which closes the connection to the client.
func (rt routes) autoRollbackByException(ctx context.Context) error {
	if err := rt.insert(ctx); err != nil {
		return err
	}
	panic(errOnPurpose)
}

// autoRollbackByStatusCode leaves no row: see answer for the status.
func (rt routes) autoRollbackByStatusCode(ctx context.Context) error {
	return rt.insertAndFail(ctx)
}

// earlyConnectionClose leaves 2 rows, and no connection taken while the
// request is busy with something else.
func (rt routes) earlyConnectionClose(ctx context.Context) error {
	return inOrder(ctx,
		rt.insertAtOnce,
		rt.db.Release,
		// Long work without a database goes here.
		rt.insert,
	)
}

// rows tells how many rows there are.
func (rt routes) rows(w http.ResponseWriter, r *http.Request) {
	var n int
	if err := rt.db.QueryRowContext(r.Context(), `select count(*) from example`).Scan(&n); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintln(w, n)
}
