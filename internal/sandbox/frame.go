package sandbox

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/unit"
)

// frame is a transaction of a unit in a sandbox: a savepoint on the lane. It
// implements [unit.Conn]; statements run on the lane's connection.
type frame struct {
	driver.Conn // the lane's
	lane        *lane
	unit        *unit.Unit // nil for a statement on its own
	owner       unit.Owner
	mark        string
	readOnly    bool             // as its last Begin said
	settings    []driver.Setting // of its transaction

	// The sandbox's mu guards the rest.
	begun  uint64 // the lane's clock when it began
	used   uint64 // and at the last statement
	undone bool   // with a transaction around it
	torn   bool   // in part, with one that was begun after it
	ending bool   // waits for nothing but the connection
	at     place
}

// place is where code runs a statement.
type place struct {
	goroutine string
	callers   []uintptr
}

// here is the place of the caller's caller.
func here() place {
	var head [32]byte // "goroutine 1234 [running]:..."
	id, _, _ := strings.Cut(string(head[:runtime.Stack(head[:], false)]), " [")
	callers := make([]uintptr, 32)
	return place{id, callers[:runtime.Callers(3, callers)]}
}

// String is the stack, the innermost call first.
func (p place) String() string {
	var b strings.Builder
	b.WriteString(p.goroutine)
	frames := runtime.CallersFrames(p.callers)
	for more := len(p.callers) > 0; more; {
		var f runtime.Frame
		f, more = frames.Next()
		fmt.Fprintf(&b, "\n\t%s\n\t\t%s:%d", f.Function, f.File, f.Line)
	}
	return b.String()
}

// Begin implements [driver.Conn].
func (f *frame) Begin(ctx context.Context, opts driver.TxOptions) error {
	l := f.lane
	f.readOnly, f.settings = opts.ReadOnly, nil
	l.box.mu.Lock()
	f.undone, f.torn = false, false // it may be one that is used again
	l.box.mu.Unlock()
	if err := f.enter(ctx, false); err != nil {
		return err
	}
	f.mark, l.inForce = markOf(f.used), nil
	beginning := ending.New(ctx, endTimeout)
	defer beginning.Cancel()
	var err error
	if f.used != anchor {
		err = f.Conn.Savepoint(beginning, f.mark)
	}
	if rides, ok := f.Conn.(driver.Flusher); err == nil && ok {
		err = rides.Flush(beginning)
	}
	if err == nil && f.readOnly && l.isPG {
		_, err = f.Conn.FirstRow(beginning, setReadOnly)
	}
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	if err != nil {
		l.lose(err)
		return err
	}
	f.begun = f.used
	l.stack = append(l.stack, f)
	return nil
}

// markOf names the savepoint that was made when the lane's clock said n.
func markOf(n uint64) string { return fmt.Sprintf("dbscope_unit_%d", n) }

// anchor is when the first unit begins. Its savepoint is made with the
// transaction, where BEGIN rides in one round trip, and stays to the end.
const anchor = 1

// Check implements [driver.Conn]. A transaction that the server has undone was
// the whole test's: without one each statement would be stored.
func (f *frame) Check(ctx context.Context, err error) driver.Fate {
	fate := f.Conn.Check(ctx, err)
	if fate == driver.Undone {
		_ = f.noteLost(err)
	}
	return fate
}

// Commit implements [driver.Conn]. What a COMMIT would check is checked.
func (f *frame) Commit(ctx context.Context) (driver.Outcome, error) {
	if err := f.enter(ctx, true); err != nil {
		if f.drop() {
			return driver.Unknown, err // as a whole: what came before it is stored
		}
		return driver.RolledBack, err
	}
	defer f.Exit()
	err := f.tornError()
	if err == nil && f.lane.defers {
		if err = f.inForce(ctx); err == nil {
			_, err = f.Conn.FirstRow(ctx, deferred)
		}
	}
	undone := err != nil || f.readOnly && f.lane.isPG
	f.remove(undone)
	if undone {
		err = errs.Joined(err, f.undo(ctx))
	}
	if err == nil {
		err = f.tidy(ctx)
	}
	if err != nil {
		return driver.RolledBack, err
	}
	return driver.Committed, nil
}

// tidy releases the savepoints of units that have ended, once there are many:
// one statement for all of them, instead of one for each.
func (f *frame) tidy(ctx context.Context) error {
	l := f.lane
	l.box.mu.Lock()
	below := uint64(anchor) // which stays
	if n := len(l.stack); n > 0 {
		below = max(below, l.stack[n-1].begun)
	}
	first := len(l.marks)
	for first > 0 && l.marks[first-1] > below {
		first--
	}
	many := l.marks[first:]
	if len(many) < untidy {
		l.box.mu.Unlock()
		return nil
	}
	l.marks = l.marks[:first]
	l.box.mu.Unlock()
	l.inForce = nil
	return f.noteLost(f.Conn.ReleaseSavepoint(ctx, markOf(many[0])))
}

// untidy is how many savepoints may be left behind.
const untidy = 16

func (f *frame) tornError() error {
	f.lane.box.mu.Lock()
	defer f.lane.box.mu.Unlock()
	if !f.torn {
		return nil
	}
	return fmt.Errorf("in a test all units share one transaction, and a part of this one was undone "+
		"with another that was begun in it: %w", dbscope.ErrRolledBack)
}

// Rollback implements [driver.Conn].
func (f *frame) Rollback(ctx context.Context) error {
	if err := f.enter(ctx, true); err != nil {
		if f.drop() { // if it is not undone already
			return err
		}
		return nil
	}
	defer f.Exit()
	f.remove(true)
	if err := f.undo(ctx); err != nil {
		return err
	}
	return f.tidy(ctx)
}

// undo goes back. That it can shows that the transaction is still the test's.
func (f *frame) undo(ctx context.Context) error {
	f.lane.inForce = nil
	return f.noteLost(f.Conn.RollbackTo(ctx, f.mark))
}

func (f *frame) noteLost(err error) error {
	if err != nil {
		f.lane.box.mu.Lock()
		defer f.lane.box.mu.Unlock()
		f.lane.lose(err)
	}
	return err
}

// remove takes the frame off the stack; its savepoint stays. Where it is
// undone, those inside are with it, and what others did since it began.
func (f *frame) remove(undone bool) {
	l := f.lane
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	i := slices.Index(l.stack, f)
	switch {
	case i < 0:
		return
	case undone:
		for _, other := range l.stack[i+1:] {
			other.undone = true
			l.forget(other)
		}
		l.forget(f)
		for _, other := range l.stack[:i] {
			other.torn = other.torn || other.used > f.begun
		}
		l.stack = l.stack[:i]
		l.marks = slices.DeleteFunc(l.marks, func(n uint64) bool { return n > f.begun })
	default:
		l.stack = slices.Delete(l.stack, i, i+1)
	}
	at, _ := slices.BinarySearch(l.marks, f.begun)
	l.marks = slices.Insert(l.marks, at, f.begun)
}

// drop makes whoever uses the connection next undo the frame, if that is not
// done, and reports whether it is stored instead. A debt from before was inside
// the frame: outer ones end later.
func (f *frame) drop() (stored bool) {
	l := f.lane
	l.box.mu.Lock()
	if slices.Contains(l.stack, f) {
		l.debt, stored = f.mark, l.stored
	}
	l.box.mu.Unlock()
	f.remove(true)
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	l.box.wake()
	return stored
}

// own makes a savepoint's name unlike those of the other units on the
// connection, whose sessions count theirs from one too.
func (f *frame) own(name string) string { return f.mark + "_" + name }

// Savepoint implements [driver.Conn].
func (f *frame) Savepoint(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.Savepoint(ctx, f.own(name)) })
}

// RollbackTo implements [driver.Conn].
func (f *frame) RollbackTo(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.RollbackTo(ctx, f.own(name)) })
}

// ReleaseSavepoint implements [driver.Conn].
func (f *frame) ReleaseSavepoint(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.ReleaseSavepoint(ctx, f.own(name)) })
}

// do has the connection to itself; the session's next leave lets go of it.
func (f *frame) do(ctx context.Context, statement func() error) error {
	if err := f.enter(ctx, false); err != nil {
		return err
	}
	f.lane.inForce = nil
	return statement()
}

// FirstRow implements [driver.Conn]. The core calls it before a commit, perhaps for
// others too before this one's.
func (f *frame) FirstRow(ctx context.Context, statement string) ([]string, error) {
	if err := f.enter(ctx, true); err != nil {
		return nil, err
	}
	defer f.Exit()
	if err := f.inForce(ctx); err != nil {
		return nil, err
	}
	return f.Conn.FirstRow(ctx, statement)
}

// Release implements [driver.Conn]. The connection stays the sandbox's.
func (f *frame) Release(bool) {
	f.drop() // which its end has done, or the beginning failed
	f.Exit()
}

// Ended implements [driver.Ender].
func (f *frame) Ended() error { return ended(f.Conn) }

func ended(conn driver.Conn) error {
	if c, ok := conn.(driver.Ender); ok {
		return c.Ended()
	}
	return nil
}
