package soak_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"runtime"
	"time"

	"github.com/dbscope/dbscope"
)

// Here are the handlers that fail, or do what they should not.

func rolledBackByStatus(c *call) error {
	c.answer(http.StatusConflict)
	return errors.Join(c.store(c.db, 2), errAnswered)
}

func markedRollback(c *call) error {
	g := c.u.group(c.db, 2)
	g.fate = absent
	if err := c.fill(c.ctx, g); err != nil {
		return err
	}
	return dbscope.MarkRollback(c.ctx)
}

func panics(c *call) error {
	_ = c.store(c.db, 2)
	panic(http.ErrAbortHandler)
}

func exits(c *call) error {
	_ = c.store(c.db, 2)
	runtime.Goexit()
	return nil
}

// errorIgnored goes on after a statement that fails. PostgreSQL undoes all then.
func errorIgnored(c *call) error {
	g := c.u.group(c.db, 2)
	if err := c.db.insert(c.ctx, c.u, g, 0); err != nil {
		return err
	}
	if c.db.exec(c.ctx, "INSERT INTO nowhere (id) VALUES (1)") == nil {
		return errors.New("there is a table nowhere")
	}
	err := c.db.insert(c.ctx, c.u, g, 1)
	if c.db.postgres && c.ctx.Err() == nil { // a statement that is not sent undoes nothing
		return nil
	}
	return err
}

// ownDeadline goes on after a statement that has taken too long.
func ownDeadline(c *call) error {
	if err := c.store(c.db, 1); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(c.ctx, time.Millisecond)
	defer cancel()
	_, _ = c.db.count(soon, c.db.slow)
	return nil
}

func rowsLeftOpen(c *call) error {
	if err := c.store(c.db, 1); err != nil {
		return err
	}
	return c.db.leave(c.ctx, "SELECT text FROM filler")
}

// goroutineLeftBehind leaves one that uses the request's context for longer than
// that lives.
func goroutineLeftBehind(c *call) error {
	err := c.store(c.db, 1)
	late := c.u.group(c.db, 1)
	late.fate = either
	c.s.left.Go(func() {
		time.Sleep(time.Duration(rand.IntN(1_000)) * time.Microsecond)
		_ = c.fill(c.ctx, late)
	})
	return err
}
