package dbscope

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// Sandbox keeps what scopes commit from being stored: on each of its databases
// there is one connection with one transaction, every scope's transaction is a
// savepoint of it, and in the end it is rolled back. Package scopetest makes
// one for a test.
type Sandbox struct {
	mu    sync.Mutex
	lanes map[*hosts]*lane
	ended bool
}

// NewSandbox makes a sandbox of the databases. It opens nothing, and must end
// with End.
func NewSandbox(dbs ...Database) *Sandbox {
	b := &Sandbox{lanes: map[*hosts]*lane{}}
	for _, db := range dbs {
		d := db.database()
		b.lanes[d.hosts] = &lane{box: b, name: d.hosts.name, changed: make(chan struct{})}
	}
	return b
}

// Context returns a context all of whose scopes run in the sandbox, and on no
// database outside it. Statements with the context itself, outside scopes, are
// units of their own.
func (b *Sandbox) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, &Scope{sandbox: b, outside: true})
}

// End rolls everything back and gives the connections back. It returns an
// error for each thing that is not as it should be: a unit that is still open,
// with the stack of its first statement, or a transaction that somebody ended.
// It blocks as [Scope.Release] does.
func (b *Sandbox) End(ctx context.Context) error {
	b.mu.Lock()
	b.ended = true
	lanes := b.lanes
	b.mu.Unlock()
	var errs []error
	for _, l := range lanes {
		errs = append(errs, l.end(ctx))
	}
	return errors.Join(errs...)
}

// lane is the one connection of a database in a sandbox. Scopes side by side
// take turns on it, nested ones nest.
type lane struct {
	box  *Sandbox
	name string

	opening sync.Mutex

	// The sandbox's mu guards the rest.
	conn     driver.Conn
	postgres bool
	marks    int
	stack    []*frame // transactions that are open, innermost last
	waiting  []*frame
	user     *frame        // whose statement is running, or its rows open
	changed  chan struct{} // closed and replaced at each change
	errs     []error       // that nobody got
}

// frame is a transaction of a scope: a savepoint on the lane. It implements
// [driver.Conn] for the session; statements run on the lane's connection.
type frame struct {
	driver.Conn // the lane's
	lane        *lane
	session     *session
	scope       *Scope // nil for a statement on its own
	mark        string
	readOnly    bool
	lost        bool // undone with a transaction around it
	aborted     bool // by the last statement that failed
	at          place
}

// place is where code runs a statement.
type place struct {
	goroutine string
	callers   []uintptr
}

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

const (
	outerMark   = "dbscope_sandbox"
	frameMark   = "dbscope_unit_"
	checkMark   = "dbscope_check"
	checkAll    = "SET CONSTRAINTS ALL IMMEDIATE"
	setReadOnly = "SET LOCAL transaction_read_only = on"
)

// acquire is what a session does instead of taking a connection of the pool.
func (b *Sandbox) acquire(ctx context.Context, s *session, engine driver.Engine) (driver.Conn, error) {
	b.mu.Lock()
	l, ended := b.lanes[s.db.hosts], b.ended
	b.mu.Unlock()
	switch {
	case ended:
		return nil, errors.New("the test is over")
	case l == nil:
		return nil, errors.New("the test has not named this database: pass it to scopetest.Rollback or scopetest.Serve")
	}
	if err := l.open(ctx, engine); err != nil {
		return nil, err
	}
	f := &frame{Conn: l.conn, lane: l, session: s, readOnly: s.opts.tx.ReadOnly}
	if s.slot != nil {
		f.scope = s.slot.scope
	}
	return f, nil
}

// open takes the connection and begins the outer transaction, once.
func (l *lane) open(ctx context.Context, engine driver.Engine) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if l.conn != nil {
		return nil
	}
	conn, err := engine.Acquire(ctx)
	if err != nil {
		return err
	}
	if err := conn.Begin(context.WithoutCancel(ctx), driver.TxOptions{}); err != nil {
		conn.Release(false)
		return err
	}
	version, err := conn.Row(ctx, "SELECT version()")
	if err != nil { // SQLite has no such function, and says so without harm
		version = nil
	}
	if err := conn.Savepoint(ctx, outerMark); err != nil {
		conn.Release(false)
		return err
	}
	l.conn, l.postgres = conn, len(version) > 0 && strings.HasPrefix(version[0], "PostgreSQL ")
	return nil
}

// within reports whether the frame's scope is that of the other frame, or was
// begun inside it.
func (f *frame) within(other *frame) bool {
	for s := f.scope; s != nil; s = s.parent {
		if s == other.scope {
			return true
		}
	}
	return false
}

// blockedBy returns the frame that keeps f from running a statement, or from
// beginning. A scope that is not inside the innermost one waits for it, unless
// it is begun where that one runs, which could not end meanwhile. The caller
// holds mu.
func (f *frame) blockedBy(goroutine string) *frame {
	l := f.lane
	if l.user != nil && l.user != f {
		return l.user
	}
	if n := len(l.stack); n > 0 {
		top := l.stack[n-1]
		began := slices.Contains(l.stack, f)
		if began && top.scope != f.scope || !began && !f.within(top) && top.at.goroutine != goroutine {
			return top
		}
	}
	return nil
}

// enter waits until the frame may use the connection; for its turn, unless it
// is about to end. It stays the user until exit.
func (f *frame) enter(ctx context.Context, ending bool) error {
	b := f.lane.box
	b.mu.Lock()
	defer b.mu.Unlock()
	me := here()
	f.at = me
	for {
		other := f.blockedBy(me.goroutine)
		if ending && f.lane.user != other {
			other = nil
		}
		switch {
		case f.lost:
			return fmt.Errorf("dbscope: %s: the unit around this one was undone, and in a test this one with it: %w", f.lane.name, errors.Join(ErrRolledBack, driver.ErrNotSent))
		case other == nil:
			f.lane.user = f
			return nil
		case other.at.goroutine == me.goroutine || f.inCycle(other):
			return fmt.Errorf("dbscope: %s: deadlock: in a test all units share one connection, and this one waits for another "+
				"that waits for it, or has its rows open: %w\n\nthis one:\n%s\nthe other one:\n%s\n%w",
				f.lane.name, ErrSessionBusy, me, other.at, driver.ErrNotSent)
		}
		if err := f.wait(ctx); err != nil {
			return err
		}
	}
}

// wait blocks until something has changed. The caller holds mu.
func (f *frame) wait(ctx context.Context) error {
	l := f.lane
	l.waiting = append(l.waiting, f)
	changed := l.changed
	l.box.mu.Unlock()
	defer func() {
		l.box.mu.Lock()
		l.waiting = slices.DeleteFunc(l.waiting, func(w *frame) bool { return w == f })
	}()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another unit of the test: %w", errors.Join(interrupted(ctx), driver.ErrNotSent))
	}
}

// inCycle reports whether the other frame's scope waits, perhaps through
// others, for f's. The caller holds mu.
func (f *frame) inCycle(other *frame) bool {
	for range 100 { // more than there can be
		other = f.lane.box.blockerOf(other.scope)
		if other == nil {
			return false
		}
		if f.within(other) {
			return true
		}
	}
	return false
}

// blockerOf returns what a scope waits for. The caller holds mu.
func (b *Sandbox) blockerOf(s *Scope) *frame {
	for _, l := range b.lanes {
		for _, f := range l.waiting {
			if s != nil && f.scope == s {
				return f.blockedBy(f.at.goroutine)
			}
		}
	}
	return nil
}

// exit lets others use the connection.
func (f *frame) exit() {
	f.lane.box.mu.Lock()
	defer f.lane.box.mu.Unlock()
	if f.lane.user == f {
		f.lane.user = nil
	}
	f.lane.signal()
}

// signal wakes all who wait. The caller holds mu.
func (l *lane) signal() {
	for _, any := range l.box.lanes { // a cycle may go through several
		close(any.changed)
		any.changed = make(chan struct{})
	}
}

// Begin implements [driver.Conn].
func (f *frame) Begin(ctx context.Context, _ driver.TxOptions) error {
	f.lost, f.aborted = false, false // it may be one that is used again
	if err := f.enter(ctx, false); err != nil {
		return err
	}
	l := f.lane
	l.box.mu.Lock()
	l.marks++
	f.mark = fmt.Sprintf("%s%d", frameMark, l.marks)
	l.box.mu.Unlock()
	if err := f.Conn.Savepoint(ctx, f.mark); err != nil {
		return err
	}
	if f.readOnly && l.postgres {
		if _, err := f.Row(ctx, setReadOnly); err != nil {
			return errors.Join(err, f.undo(ctx))
		}
	}
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	l.stack = append(l.stack, f)
	return nil
}

// Commit implements [driver.Conn]. What a COMMIT would check is checked.
func (f *frame) Commit(ctx context.Context) (driver.Outcome, error) {
	if err := f.enter(ctx, true); err != nil {
		return driver.RolledBack, err
	}
	defer f.exit()
	err := f.checkConstraints(ctx)
	innermost := f.remove(err != nil || f.readOnly)
	switch {
	case err != nil || f.readOnly:
		if undoErr := f.undo(ctx); undoErr != nil {
			return driver.Unknown, errors.Join(err, undoErr)
		}
		if err != nil {
			return driver.RolledBack, err
		}
	case innermost:
		if err := f.Conn.ReleaseSavepoint(ctx, f.mark); err != nil {
			return driver.RolledBack, err
		}
	}
	return driver.Committed, nil
}

// checkConstraints fails where a deferred constraint would make COMMIT fail.
func (f *frame) checkConstraints(ctx context.Context) error {
	if !f.lane.postgres {
		return nil
	}
	if err := f.Conn.Savepoint(ctx, checkMark); err != nil {
		return err
	}
	if _, err := f.Conn.Row(ctx, checkAll); err != nil {
		return err
	}
	// What was checked waits for the next commit again.
	return errors.Join(f.Conn.RollbackTo(ctx, checkMark), f.Conn.ReleaseSavepoint(ctx, checkMark))
}

// Rollback implements [driver.Conn].
func (f *frame) Rollback(ctx context.Context) error {
	if err := f.enter(ctx, true); err != nil {
		return err
	}
	defer f.exit()
	f.remove(true)
	return f.undo(ctx)
}

func (f *frame) undo(ctx context.Context) error {
	return errors.Join(f.Conn.RollbackTo(ctx, f.mark), f.Conn.ReleaseSavepoint(ctx, f.mark))
}

// remove takes the frame off the stack, and reports whether it was the
// innermost. Where it is undone, those inside are lost with it.
func (f *frame) remove(undone bool) (innermost bool) {
	l := f.lane
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	i := slices.Index(l.stack, f)
	if i < 0 {
		return false
	}
	inside := l.stack[i+1:]
	innermost = len(inside) == 0
	if undone {
		for _, other := range inside {
			other.lost = true
		}
		l.stack = l.stack[:i]
		return innermost
	}
	l.stack = slices.Delete(l.stack, i, i+1)
	return innermost
}

// Savepoint implements [driver.Conn].
func (f *frame) Savepoint(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.Savepoint(ctx, name) })
}

// RollbackTo implements [driver.Conn].
func (f *frame) RollbackTo(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.RollbackTo(ctx, name) })
}

// ReleaseSavepoint implements [driver.Conn].
func (f *frame) ReleaseSavepoint(ctx context.Context, name string) error {
	return f.do(ctx, func() error { return f.Conn.ReleaseSavepoint(ctx, name) })
}

// Row implements [driver.Conn].
func (f *frame) Row(ctx context.Context, statement string) (row []string, err error) {
	err = f.do(ctx, func() error {
		row, err = f.Conn.Row(ctx, statement)
		return err
	})
	return row, err
}

// do has the connection to itself; the session's next leave lets go of it.
func (f *frame) do(ctx context.Context, statement func() error) error {
	if err := f.enter(ctx, false); err != nil {
		return err
	}
	return statement()
}

// Check implements [driver.Conn].
func (f *frame) Check(ctx context.Context, err error) driver.Fate {
	fate := f.Conn.Check(ctx, err)
	f.aborted = fate == driver.Aborted
	return fate
}

// Release implements [driver.Conn]: a statement on its own is kept unless it
// spoiled the transaction. The connection stays the sandbox's.
func (f *frame) Release(reuse bool) {
	defer f.exit()
	if f.scope != nil || f.mark == "" || !reuse {
		f.remove(true)
		return
	}
	ctx := context.Background()
	f.remove(f.aborted)
	var err error
	if f.aborted {
		err = f.undo(ctx)
	} else {
		err = f.Conn.ReleaseSavepoint(ctx, f.mark)
	}
	f.lane.note(err)
}

// note keeps an error that has nobody to go to, for the end.
func (l *lane) note(err error) {
	if err == nil {
		return
	}
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	l.errs = append(l.errs, fmt.Errorf("dbscope: %s: %w", l.name, err))
}

// end rolls the outer transaction back.
func (l *lane) end(ctx context.Context) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if l.conn == nil {
		return nil
	}
	l.box.mu.Lock()
	errs, open := l.errs, slices.Clone(l.stack)
	for _, f := range l.stack {
		what := "a unit of work is still open, its last statement being"
		if f.scope == nil {
			what = "rows are still open, or a statement runs,"
		}
		errs = append(errs, fmt.Errorf("dbscope: %s: at the end of the test %s here:\n%s", l.name, what, f.at))
	}
	l.box.mu.Unlock()
	for _, f := range slices.Backward(open) {
		f.session.seize(ctx, true)
		errs = append(errs, f.session.settle(ctx, false, false).Err)
		f.session.ending.Unlock()
	}
	ending := endContext(ctx, defaultEndTimeout)
	defer ending.cancel()
	last := &frame{lane: l}
	if err := last.enter(ending, true); err != nil {
		return errors.Join(append(errs, err)...) // somebody else still uses the connection
	}
	if err := l.conn.RollbackTo(ending, outerMark); err != nil {
		errs = append(errs, fmt.Errorf("dbscope: %s: the test's transaction was ended behind its back, so that its work may be stored: %w", l.name, err))
	}
	err := l.conn.Rollback(ending)
	l.conn.Release(err == nil)
	return errors.Join(append(errs, err)...)
}

// inner is the connection that an adapter knows.
func inner(conn driver.Conn) driver.Conn {
	if f, ok := conn.(*frame); ok {
		return f.Conn
	}
	return conn
}
