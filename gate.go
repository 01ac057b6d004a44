package dbscope

import (
	"context"
	"database/sql"
	"time"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/internal/watch"
)

// database is the part of a DB that does not depend on its handle.
type database struct{ link.Database }

// AllPools are for package scopetest.
func (d *database) AllPools() *pools.Pools { return d.Pools }

// find returns the session of the context's scope.
func (d *database) find(ctx context.Context) (*session.Session, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, d.Errorf("%w", noScope(ctx))
	}
	ss, err := s.session(&d.Database)
	s.watch.Load().Refused(ctx, d.Name, err)
	return ss, err
}

// Session implements [driver.Gate].
func (d *database) Session(ctx context.Context) (driver.Session, error) {
	if scopeOf(ctx) == nil && (d.AllowUnscoped || unit.IsFixture(ctx)) {
		return d.SessionOrUnscoped(ctx)
	}
	ss, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	return ss, nil
}

// SessionOrUnscoped implements [driver.Gate].
func (d *database) SessionOrUnscoped(ctx context.Context) (driver.Session, error) {
	if scopeOf(ctx) == nil && unit.Refused(ctx) == nil {
		return &unscoped{newUnscoped(ctx, &d.Database), unit.SandboxOf(ctx) != nil}, nil
	}
	ss, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	return ss, nil
}

// Engine implements [driver.Gate].
func (d *database) Engine(ctx context.Context) (driver.Engine, error) {
	e, err := d.Pools.Engine(ctx)
	if err != nil {
		return nil, d.Errorf("%w", err)
	}
	return e, nil
}

// endOpen ends what is open in the scope's session; with nothing open it does
// nothing, also where somebody else has just ended that, unless the whole scope is
// over.
func (d *database) endOpen(ctx context.Context, w session.Wish) error {
	for {
		ss, err := d.find(ctx)
		if err != nil {
			return err
		}
		if err := slotOf(ss).scope.mayEnd(w, ss.DB); err != nil {
			return err
		}
		if !ss.IsOpen() { // asked first: a scope is over before its sessions are
			if ended := ss.Place.UnitEnded(); ended != nil {
				return d.Errorf("%w", ended)
			}
			return nil
		}
		err = slotOf(ss).EndEarly(ctx, ss, w, nil, nil)
		if _, late := err.(*session.OverError); !late { //nolint:errorlint // of this session, not of one in a hook
			return err
		}
	}
}

// nowhere is the [session.Place] of a statement outside units, or of one that has nothing
// to do with the unit around it.
type nowhere struct {
	db     *link.Database
	around *Scope
	watch  *watch.DB // tells observers, nil where there are none
}

func (nowhere) Context() context.Context                 { return nil }
func (nowhere) Sandbox(ctx context.Context) unit.Sandbox { return unit.SandboxOf(ctx) }
func (nowhere) Seen() *unit.Unit                         { return nil }
func (n nowhere) Watch() *watch.DB                       { return n.watch }
func (n nowhere) Gave()                                  { n.watch.Gave() }
func (nowhere) UnitEnded() error                         { return nil }
func (nowhere) Admitted()                                {}
func (nowhere) HasBlocks() bool                          { return false }
func (nowhere) Owns(context.Context) bool                { return false }
func (nowhere) Failed(error)                             {}
func (nowhere) BlockEnded(*session.Block, bool)          {}
func (nowhere) Ended(*session.Session)                   {}
func (nowhere) Closing(most time.Duration) time.Duration { return most }
func (nowhere) AwaitsEnd(bool) bool                      { return true }
func (nowhere) Keep(*session.Session) bool               { return false }
func (nowhere) EndEarly(context.Context, *session.Session, session.Wish, *session.Block, session.Last) error {
	return nil
}

func (n nowhere) Took(ctx context.Context, from *pools.Host) {
	n.watch.Took(ctx, from.Name(), 1, 0)
}

func (n nowhere) MayWaitForItself() pools.Limit { return n.around.mayWaitForItself(n.db, nil) }

func (n nowhere) Waits() pools.Unit {
	if n.around == nil {
		return nil
	}
	return (*waitingUnit)(n.around)
}

func newUnscoped(ctx context.Context, d *link.Database) *session.Session {
	return session.New(d, nowhere{d, scopeOf(ctx), watch.Outside(d.Name, d.Observers)}, driver.TxOptions{}, defaultEndTimeout)
}

// unscoped is the session of a statement without a scope. A transaction begun in
// it is a scope of its own, which ends with it. It implements [driver.Unscoped].
type unscoped struct {
	*session.Session
	shared bool // its connection is that of a test, whose units take turns on it
}

// Keep implements [driver.Unscoped]. With Settings only transactions are admitted, and
// each begins as one of its own.
func (u *unscoped) Keep() bool {
	u.Kept = !u.shared && u.DB.Settings == nil
	return u.Kept
}

// Bare implements [driver.Unscoped].
func (u *unscoped) Bare() bool { return !u.shared && !u.DB.Resets && u.DB.Settings == nil }

// GiveBack implements [driver.Unscoped].
func (u *unscoped) GiveBack() {
	u.GiveUp()
}

// Begin implements [driver.Session].
func (u *unscoped) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	ctx, scope := Begin(ctx, unitOption(func(o *unitOptions) { o.tx.TxOptions = opts }))
	ss, err := scope.session(u.DB)
	if err == nil && u.Kept {
		err = u.LendTo(ctx, ss)
	}
	if err == nil {
		_, err = ss.Enter(ctx)
	}
	if err != nil {
		return nil, errs.Joined(err, scope.End(ctx))
	}
	return &unscopedTx{ss, scope}, ss.Exit(ctx, nil)
}

// Join implements [driver.Session].
func (u *unscoped) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return u.Begin(ctx, opts)
}

type unscopedTx struct {
	*session.Session
	scope *Scope
}

// Commit implements [driver.Session].
func (t *unscopedTx) Commit(ctx context.Context) error {
	return finish(ctx, session.Commit, isOver, t.scope)
}

// Rollback implements [driver.Session].
func (t *unscopedTx) Rollback(ctx context.Context) error {
	return finish(ctx, session.RollBack, isOver, t.scope)
}
