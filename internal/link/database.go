package link

import (
	"context"
	"fmt"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/settle"
	"github.com/dbscope/dbscope/observe"
)

// Database is the part of a DB that does not depend on its handle.
type Database struct {
	Name          string
	AllowUnscoped bool
	Pools         *pools.Pools
	BeforeSession func(context.Context) error                     // or nil
	BeforeCommit  func(context.Context) error                     // of each transaction, or nil
	Settings      func(context.Context) ([]driver.Setting, error) // of each transaction, or nil
	Classify      Classifier
	Settler       settle.Settler // or nil
	Resets        bool           // connections that go back, see dbscope.ResetConnections
	Observers     []observe.Observer
}

// Classifier is an adapter's knowledge of errors.
type Classifier interface {
	Transient(err error) bool
	WriteRefused(err error) bool
}

// Transient reports whether what failed may succeed another time.
func (d *Database) Transient(err error) bool { return err != nil && d.Classify.Transient(err) }

// Errorf makes an error that names the database.
func (d *Database) Errorf(format string, args ...any) error {
	return fmt.Errorf("dbscope: %s: "+format, append([]any{d.Name}, args...)...)
}

// beforeKey marks the context of a BeforeSession function, whose own sessions
// do not call it again.
type beforeKey struct{ *pools.Pools }

// beforeOpening calls the function of dbscope.BeforeSession.
func (d *Database) beforeOpening(ctx context.Context) error {
	if d.BeforeSession == nil || ctx.Value(beforeKey{d.Pools}) != nil {
		return nil
	}
	if err := d.BeforeSession(context.WithValue(ctx, beforeKey{d.Pools}, true)); err != nil {
		return fmt.Errorf("before the session: %w", err)
	}
	return nil
}

// resetTimeout bounds the reset of a connection. One that takes longer is closed.
const resetTimeout = time.Second

// GiveBack releases a connection that has left its unit.
func (d *Database) GiveBack(conn driver.Conn, reuse bool) {
	if reuse && d.Resets {
		bounded := ending.New(context.Background(), resetTimeout)
		defer bounded.Cancel()
		r, can := conn.(driver.Resetter)
		reuse = can && r.Reset(bounded) == nil
	}
	conn.Release(reuse)
}
