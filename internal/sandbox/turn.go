package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
)

// patience is how long a unit of a test waits while nothing happens on the
// connections: then it waits for one that waits for it, in a way that cannot be
// seen from here, such as for the answer to a request.
const patience = 10 * time.Second

// Enter implements [unit.Conn].
func (f *frame) Enter(ctx context.Context) (driver.Conn, error) {
	if err := f.enter(ctx, false); err != nil {
		return f.Conn, err
	}
	return f.Conn, f.noteLost(f.inForce(ctx)) // which it was before
}

// enter waits until the frame may use the connection; for its turn, unless it
// is about to end. It stays the user until Exit.
func (f *frame) enter(ctx context.Context, ending bool) error {
	l := f.lane
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	f.ending = ending
	if !ending {
		f.at = here()
	}
	for {
		other := f.blockedBy()
		if ending && other != nil { // asked late: it takes longer than all the rest
			f.at = here()
		}
		switch {
		case l.closed || l.box.ended && !ending:
			return fmt.Errorf("dbscope: %s: the test is over, and this unit undone with it: %w", l.pools.Name(), driver.ErrNotSent)
		case l.lost != nil:
			l.missed = l.missed || !ending
			return l.lostError()
		case f.undone:
			return fmt.Errorf("dbscope: %s: the unit around this one was undone, and in a test this one with it: %w", l.pools.Name(),
				errors.Join(dbscope.ErrRolledBack, driver.ErrNotSent))
		case other == nil:
			l.clock++
			l.user, f.used = f, l.clock
			if l.ready(ctx) {
				return nil
			}
			l.user = nil
			l.box.wake()
			continue
		case other.at.goroutine == f.at.goroutine:
			return f.deadlock("waits for another that waits for it, or has its rows open", other)
		}
		if closing := f.cycle(other); closing != nil {
			return f.deadlock("waits for another that waits for it", other, closing)
		}
		if err := l.pause(ctx, f); err != nil {
			if errors.Is(err, errIdle) {
				err = f.deadlock(fmt.Sprintf("has waited for another, while nothing happened for %v", patience), other)
			}
			return err
		}
	}
}

func (f *frame) deadlock(what string, others ...*frame) error {
	var stacks strings.Builder
	for _, o := range others {
		fmt.Fprintf(&stacks, "\nthe other one:\n%s", o.at)
	}
	return fmt.Errorf("dbscope: %s: deadlock: in a test all units share one connection, and this one %s: %w\n\nthis one:\n%s%s\n%w",
		f.lane.pools.Name(), what, dbscope.ErrSessionBusy, f.at, stacks.String(), driver.ErrNotSent)
}

// Exit implements [unit.Conn]: it lets others use the connection.
func (f *frame) Exit() {
	l := f.lane
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	if l.user == f {
		l.user = nil
		l.box.wake()
	}
}

// within reports whether the frame's unit is that of the other frame, or was
// begun inside it.
func (f *frame) within(other *frame) bool {
	for u := f.unit; u != nil; u = u.Parent {
		if u == other.unit {
			return true
		}
	}
	return false
}

// beside reports whether the other frame's unit only waits to be committed
// together with f's.
func (f *frame) beside(other *frame) bool {
	if other.unit == nil || !other.unit.Done.Load() {
		return false
	}
	for u := f.unit; u != nil; u = u.Parent {
		if u.Group == other.unit.Group {
			return true
		}
	}
	return false
}

// blockedBy returns the frame that keeps f from running a statement, or from
// beginning. A scope that is not inside the innermost one waits for it, unless
// it is begun where that one runs, which could not end meanwhile. The caller
// holds mu.
func (f *frame) blockedBy() *frame {
	l := f.lane
	switch {
	case l.user != nil && l.user != f:
		return l.user
	case f.ending || len(l.stack) == 0:
		return nil
	}
	top := l.stack[len(l.stack)-1]
	if top.unit == f.unit && f.unit != nil || f.beside(top) {
		return nil
	}
	began := slices.Contains(l.stack, f)
	if began && top != f || !began && !f.within(top) && top.at.goroutine != f.at.goroutine {
		return top
	}
	return nil
}

// cycle returns the frame that waits for f's unit, while the other one, for
// which f is to wait, waits for it or through others. The caller holds mu.
func (f *frame) cycle(other *frame) *frame {
	seen := map[*frame]bool{}
	for todo := []*frame{other}; len(todo) > 0; todo = todo[1:] {
		if seen[todo[0]] {
			continue
		}
		seen[todo[0]] = true
		for w, next := range f.lane.box.heldUpBy(todo[0]) {
			if w != f && (f.within(next) || next.at.goroutine == f.at.goroutine) {
				return w
			}
			todo = append(todo, next)
		}
	}
	return nil
}

// heldUpBy returns those that wait, and so keep the unit from its end, each
// with the one it waits for.
func (b *Sandbox) heldUpBy(unit *frame) map[*frame]*frame {
	all := map[*frame]*frame{}
	for _, l := range b.lanes {
		for _, w := range l.waiting {
			if next := w.blockedBy(); next != nil && (w.within(unit) || w.at.goroutine == unit.at.goroutine) {
				all[w] = next
			}
		}
	}
	return all
}

var errIdle = errors.New("nothing happens")

// pause blocks until something has changed. The caller holds mu.
func (l *lane) pause(ctx context.Context, f *frame) error {
	l.waiting = append(l.waiting, f)
	changed := l.changed
	l.box.mu.Unlock()
	timer := time.NewTimer(patience)
	defer func() {
		timer.Stop()
		l.box.mu.Lock()
		l.waiting = slices.DeleteFunc(l.waiting, func(w *frame) bool { return w == f })
	}()
	select {
	case <-changed:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		return fmt.Errorf("waiting for another unit of the test: %w", errors.Join(errs.Interrupted(ctx), driver.ErrNotSent))
	}
	if l.box.busy() {
		return nil
	}
	return errIdle
}

// busy reports whether a statement runs.
func (b *Sandbox) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lanes {
		if l.user != nil {
			return true
		}
	}
	return false
}

// ready looks whether the transaction is there, and undoes what could not be
// undone when it was to. The caller holds mu and is the connection's user.
func (l *lane) ready(ctx context.Context) bool {
	mark := l.debt
	l.debt = ""
	l.box.mu.Unlock()
	err := ended(l.conn)
	stored := err != nil
	if mark != "" && !stored {
		bounded := ending.New(ctx, endTimeout)
		l.inForce = nil
		err = l.conn.RollbackTo(bounded, mark)
		bounded.Cancel()
	}
	l.box.mu.Lock()
	if err != nil {
		l.lose(err)
		l.stored = stored
	}
	return err == nil
}

// lose notes that the transaction is no more. The caller holds mu.
func (l *lane) lose(err error) {
	if l.lost == nil {
		l.lost = err
	}
}

// lostError is the answer to all that follows. The caller holds mu.
func (l *lane) lostError() error {
	why := l.lost
	if !l.stored {
		why = errors.Join(dbscope.ErrRolledBack, why)
	}
	return fmt.Errorf("dbscope: %s: in a test all units share one transaction, and that is no more: %w", l.pools.Name(),
		errors.Join(why, driver.ErrNotSent))
}
