package idempotent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/backoff"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/middleware"
)

// claim is a request's hold on its key, from before the handler is called to the
// commit of its unit.
type claim struct {
	*guard
	*target
	known
	scope       middleware.Scope
	r           *http.Request
	id          []byte // of the key
	request     []byte // its hash
	transaction uint64 // with the row of the key
	recorder    *recorder
}

// errInUse: the key could not be had in time.
var errInUse = errors.New("idempotent: a request with the same key is being served")

// take inserts the row of the key in the unit's transaction, unless there is one
// already, which it returns. It blocks while another unit that has inserted it is under
// way.
//
// What the database undoes for the other one's sake is tried again, where that undoes
// nothing else: no other statement of the unit came before.
func (c *claim) take(ctx context.Context) (*stored, error) {
	alone := !c.scope.Holding()
	deadline := time.Now().Add(c.wait)
	for attempt := 1; ; attempt++ {
		found, err := c.takeOnce(ctx)
		if err == nil || errors.Is(err, errInUse) {
			return found, err
		}
		late, transient := waitedTooLong(err), c.scope.Transient(err)
		if alone {
			err = errs.Joined(err, c.rollback(ctx))
		}
		switch {
		case !late && !transient:
			return nil, fmt.Errorf("idempotent: looking for the request's key, in the table dbscope_requests: %w", err)
		case late, !alone, c.wait > 0 && time.Now().After(deadline):
			return nil, errInUse
		}
		if pause.Wait(ctx, attempt, err) != nil {
			return nil, errInUse
		}
	}
}

// pause is between two attempts. There are as many as the time allows.
var pause = backoff.Policy{Attempts: 100, MinDelay: 2 * time.Millisecond, MaxDelay: 100 * time.Millisecond}

func (c *claim) takeOnce(ctx context.Context) (*stored, error) {
	var err error
	if c.known, err = c.ask(ctx); err != nil {
		return nil, err
	}
	for range 3 { // a row that was there a moment ago may have been purged
		inserted, err := c.insert(ctx)
		if err != nil || inserted {
			return nil, err
		}
		var found stored
		err = c.sql.QueryRowContext(ctx, c.find, c.id).Scan(&found.request, &found.response)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err == nil && found.response == nil: // of this very unit, which serves the request inside another one
			return nil, errInUse
		}
		return &found, err
	}
	return nil, errInUse
}

// insert inserts the row of the key, and notes the transaction that it is in.
func (c *claim) insert(ctx context.Context) (inserted bool, err error) {
	n, err := c.exec(ctx, c.claimWithin(c.wait), c.id, c.request, time.Now().Unix())
	if err != nil || n == 0 {
		return false, err
	}
	session, err := c.session(ctx)
	if err == nil {
		c.transaction = session.ID()
	}
	return true, err
}

// waitedTooLong reports whether PostgreSQL's lock_timeout was over. Other databases say
// something that [dbscope.Retry] knows.
func waitedTooLong(err error) bool {
	return driver.AnyError(err, func(err error) bool {
		state, has := err.(interface{ SQLState() string }) // each error by itself
		return has && state.SQLState() == "55P03"
	})
}

// hold begins to record the response, and refuses each commit before it is whole. Early
// ends take the hooks of what they end with them, so that the whole unit has one as well
// as the transaction.
func (c *claim) hold(ctx context.Context, w http.ResponseWriter) error {
	c.recorder = newRecorder(w, c.maxResponse)
	complete := func(context.Context) error {
		_, err := c.recorder.recorded()
		return err
	}
	if err := c.beforeCommit(ctx, complete); err != nil {
		return err
	}
	return dbscope.BeforeCommit(ctx, complete)
}

// release lets the unit be committed, with the response, when the handler has returned.
func (c *claim) release(ctx context.Context) {
	c.recorder.finish()
	_ = dbscope.BeforeCommit(ctx, c.store) // fails only where the unit is over, and rolled back
}

var errTaken = errors.New("idempotent: the handler has rolled back the transaction with the request's key, " +
	"and another request has taken the key meanwhile")

// store puts the response into the row, with COMMIT where it can travel with that. Where
// the handler has rolled back early there is no such row, and it makes one.
func (c *claim) store(ctx context.Context) error {
	was, err := c.recorder.recorded()
	if err != nil {
		return err
	}
	session, err := c.session(ctx)
	if err != nil {
		return wrap(err)
	}
	here := session.ID() == c.transaction
	if c.storeWhen != nil && !c.storeWhen(c.r, was.status) {
		if here {
			_, err = c.exec(ctx, c.forget, c.id)
		}
		return wrap(err)
	}
	if !here {
		switch inserted, err := c.insert(ctx); {
		case err != nil:
			return wrap(err)
		case !inserted:
			return errTaken
		}
	}
	return wrap(c.put(ctx, was.encode()))
}

// put puts the response into the transaction's row.
func (c *claim) put(ctx context.Context, response []byte) error {
	if !c.rides {
		_, err := c.exec(ctx, c.dialect.store, response, c.id)
		return err
	}
	session, err := c.session(ctx)
	if err != nil {
		return err
	}
	return session.CommitBehind(func(ctx context.Context, conn driver.Conn) error {
		if o := session.Observer(); o != nil {
			ctx = o.Start(ctx, driver.Statement{Text: c.dialect.store})
		}
		return wrap(conn.(driver.Execer).ExecArgs(ctx, c.dialect.store, response, c.id))
	})
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("idempotent: storing the response: %w", err)
}
