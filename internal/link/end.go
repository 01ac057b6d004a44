package link

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/settle"
)

// Result is how a transaction ended.
type Result struct {
	Open    bool           // there was something to end
	Outcome driver.Outcome // what became of it; where nothing was open, of what was to be
	Err     error
	Lost    bool // the answer to COMMIT was, and it was not done
}

// CallWitness asks for what a lost COMMIT can be settled with. There is nothing to
// settle where a statement has committed the transaction: its Commit will say so. With
// last set a statement is still to come, which travels with COMMIT.
func (l *Link) CallWitness(ctx context.Context, last bool) (err error) {
	if l.DB.Settler == nil || l.Adopted != nil || l.Source.Context() == nil || l.TX.ReadOnly || l.EndedByStatement() != nil {
		return nil
	}
	bounded := ending.New(ctx, l.Timeout)
	defer bounded.Cancel()
	l.witness, err = l.DB.Settler.Witness(bounded, l.Conn, last)
	return err
}

// Look returns the error with which the server has ended the session already, where
// that can be seen: COMMIT is then sent to no database of the unit. What a statement
// has committed before is not undone by that: there the connection's Commit tells.
func (l *Link) Look() error {
	looker, can := l.Conn.(driver.Looker)
	if !can || l.Adopted != nil || l.EndedByStatement() != nil {
		return nil
	}
	return looker.Look()
}

// EndedByStatement returns an error where a statement has committed the transaction
// that it was part of.
func (l *Link) EndedByStatement() error {
	if e, can := l.Conn.(driver.Ender); can {
		return e.Ended()
	}
	return nil
}

// SendCommit sends COMMIT. The error says that it was not sent, since what has to be
// asked before could not be.
//
// A read-only transaction whose COMMIT was not answered has stored nothing. It
// counts as rolled back and not as committed: on some isolation levels only the
// answer tells that what was read can be believed.
func (l *Link) SendCommit(ctx context.Context) (Result, error) {
	before, err := l.askBefore(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Open: true}
	if w := l.Writes(); w != nil {
		r.Outcome, err = w.Commit(ctx, l.Conn, l.DB.Pools.Router(), before)
	} else {
		r.Outcome, err = l.Conn.Commit(ctx)
	}
	switch r.Outcome {
	case driver.Committed:
		return r, nil
	case driver.RolledBack: // by COMMIT, or by a statement that it went with
		l.Blame(ctx, driver.Aborted, err)
		err = l.Explain(err)
		r.Err = l.DB.Errorf("%w: %w", errs.ErrRolledBack, err)
		return r, nil
	}
	l.Blame(context.Background(), driver.Lost, err)
	if l.TX.ReadOnly && !errors.Is(err, driver.ErrEnded) {
		r.Outcome, r.Lost = driver.RolledBack, true
		r.Err = l.DB.Errorf("%w: the answer to COMMIT was lost, but the transaction was read-only: %w", errs.ErrRolledBack, err)
		return r, nil
	}
	r.Err = l.DB.Errorf("%w: %w", errs.ErrCommitUnknown, err)
	return r, nil
}

// CommitAdopted notes a commit of other code's. Its position is not known.
func (l *Link) CommitAdopted() {
	if w := l.Writes(); w != nil {
		w.NoteNewest(l.DB.Pools.Router())
	}
}

// askBefore asks what has to be asked before COMMIT, where that cannot do it itself.
func (l *Link) askBefore(ctx context.Context) ([]string, error) {
	if _, ok := l.Conn.(driver.CommitQuerier); ok || l.Writes() == nil {
		return nil, nil
	}
	before, _ := l.DB.Pools.Router().Queries()
	row, err := l.Conn.FirstRow(ctx, before)
	if err != nil {
		return nil, l.DB.Errorf("%w: COMMIT was not sent: %w", errs.ErrRolledBack, err)
	}
	return row, nil
}

// Unsettled reports whether a result is unknown and can be asked about.
func (l *Link) Unsettled(r Result) bool {
	return l.witness != nil && r.Open && r.Outcome == driver.Unknown && !errors.Is(r.Err, driver.ErrUnconfirmed)
}

// canSettle asks, before the first transaction on each host, whether the database is one
// that can be asked what became of a COMMIT.
func (l *Link) canSettle(ctx context.Context) error {
	picky, is := l.DB.Settler.(settle.Picky)
	if !is || l.TX.ReadOnly || l.Shared != nil || l.Source.Context() == nil {
		return nil
	}
	return picky.Possible(ctx, l.Conn, l.Host.Name())
}

// Settle asks on another connection what became of a COMMIT whose answer was lost.
func (l *Link) Settle(ctx context.Context, r Result) Result {
	bounded := ending.New(ctx, l.Timeout)
	defer bounded.Cancel()
	outcome, err := settle.Ask(bounded, l.DB.Settler, l.writingPool, l.witness)
	switch {
	case err != nil:
		r.Err = errs.Joined(r.Err, l.DB.Errorf("it could not be settled: %w", err))
	case outcome == driver.Committed:
		return Result{Open: true, Outcome: outcome}
	case outcome == driver.RolledBack:
		// Not wrapped as unknown any more.
		err := l.DB.Errorf("%w: the answer to COMMIT was lost, and it was not done: %v", errs.ErrRolledBack, r.Err)
		return Result{Open: true, Outcome: outcome, Err: err, Lost: true}
	}
	return r
}

// writingPool is where to ask: a host that writes no more knows less.
func (l *Link) writingPool(ctx context.Context) (driver.Engine, error) {
	if l.DB.Pools.Router() != nil {
		return l.DB.Pools.Engine(ctx)
	}
	return l.Engine, nil
}
