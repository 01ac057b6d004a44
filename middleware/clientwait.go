package middleware

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// ClientWait bounds how long the connections of one unit wait for its client: how
// long, since the unit took the first of them and until all have gone back, it
// was inside of what may block on the client, while no statement of it ran. Then
// the unit is rolled back, though its handler is still blocked. The zero value
// bounds nothing. A goroutine may send while another one receives.
//
// Where nothing waits while a connection is held it costs no more than a look.
type ClientWait struct {
	scope Scope
	side  ClientSide
	limit time.Duration

	mu       sync.Mutex // guards the rest; under it nobody but the scope is asked
	inside   [2]int     // how many calls receive and send
	runs     bool       // the time does, since
	since    time.Time
	spent    time.Duration
	timer    *time.Timer // made once it is needed
	over     bool
	late     error         // the limit was passed
	done     chan struct{} // closed when all that follows from it was done
	panicked any           // by OnError meanwhile
}

// ClientSide is what the framework does for a unit whose client was too slow. Its
// methods are called once, in this order, by a goroutine of their own, while the
// handler is blocked.
type ClientSide interface {
	// Fail lets nothing of a success reach the client from now on. After it the
	// unit is rolled back.
	Fail(err error)
	// Wake ends the calls that are blocked, as far as possible. They then return,
	// and find the error when they leave.
	Wake(receiving, sending bool)
	// Report passes the error on that the handler gets from now on.
	Report(err error)
}

// DefaultClientTimeout is that of [Policy.ClientTimeout].
const DefaultClientTimeout = 30 * time.Second

// SlowClientError says that a unit was rolled back since its connections had
// waited too long for its client. It wraps [os.ErrDeadlineExceeded].
type SlowClientError struct {
	Limit   time.Duration
	Sending bool // to the client, else receiving from it
}

// Error says what to do.
func (e *SlowClientError) Error() string {
	const head = "dbscope: the unit held a connection for %v while it waited for its client to %s, and was rolled back: %s, or raise ClientTimeout"
	if e.Sending {
		return fmt.Sprintf(head, e.Limit, "take its answer", "close the rows, or commit, before sending much, give exports a pool of their own")
	}
	return fmt.Sprintf(head, e.Limit, "send its request", "read the request before the first statement, as httpscope.BufferBody does for all handlers")
}

// Unwrap returns [os.ErrDeadlineExceeded].
func (*SlowClientError) Unwrap() error { return os.ErrDeadlineExceeded }

// WaitForClient begins to watch the scope, for which its context must not have
// been given away yet. The limit is that of [Policy.ClientTimeout].
func (p *Policy[R]) WaitForClient(w *ClientWait, scope Scope, side ClientSide) {
	w.scope, w.side, w.limit = scope, side, p.ClientTimeout
	if w.limit == 0 {
		w.limit = DefaultClientTimeout
	}
	if w.limit > 0 {
		scope.Watch(w)
	}
}

// HoldingChanged is told by the scope, see [Control].
func (w *ClientWait) HoldingChanged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.update()
}

// Enter is called before what may block on the client. After an error that is not
// to be called, and Leave is neither.
func (w *ClientWait) Enter(sending bool) error {
	if w.limit <= 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.late != nil {
		return w.late
	}
	w.inside[index(sending)]++
	w.update()
	return nil
}

// Leave is called after it, also where it panicked. Its error, if any, is to be
// returned in place of what the call returned.
func (w *ClientWait) Leave(sending bool) error {
	if w.limit <= 0 {
		return nil
	}
	w.mu.Lock()
	w.inside[index(sending)]--
	w.update()
	if w.spent >= w.limit && w.late == nil && !w.over { // short calls, of which the timer met none
		w.pass(sending)
		w.mu.Lock()
	}
	late := w.late
	w.mu.Unlock()
	if late != nil {
		w.await()
	}
	return late
}

// Call calls what may block on the client, between Enter and Leave, whose errors
// take the place of its own.
func (w *ClientWait) Call(sending bool, call func() error) (err error) {
	if err := w.Enter(sending); err != nil {
		return err
	}
	defer func() {
		if late := w.Leave(sending); late != nil {
			err = late
		}
	}()
	return call()
}

// Pause calls f, whose time is not the client's, between Enter and Leave.
func (w *ClientWait) Pause(sending bool, f func()) {
	if w.limit <= 0 {
		f()
		return
	}
	w.move(sending, -1)
	defer w.move(sending, 1)
	f()
}

func (w *ClientWait) move(sending bool, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside[index(sending)] += n
	w.update()
}

// End ends all counting when the handler has returned, also where a goroutine
// that it left behind is still inside. It returns the error of a limit that was
// passed before.
func (w *ClientWait) End() error {
	if w.limit <= 0 {
		return nil
	}
	w.mu.Lock()
	w.over = true
	w.update()
	late := w.late
	w.mu.Unlock()
	if late != nil {
		w.await()
	}
	return late
}

// await blocks until all was done that follows from the limit, so that the
// handler's goroutine is not at work beside it. A panic goes on there, once.
func (w *ClientWait) await() {
	<-w.done
	w.mu.Lock()
	p := w.panicked
	w.panicked = nil
	w.mu.Unlock()
	if p != nil {
		panic(p)
	}
}

// samples is how often, while the time runs, is looked whether a statement does.
const samples = 10

// update lets the time run or stop. The caller holds mu.
func (w *ClientWait) update() {
	holding := w.scope.Holding()
	runs := holding && w.inside != [2]int{} && !w.over && w.late == nil
	switch {
	case runs && !w.runs:
		w.since = time.Now()
		w.set()
	case !runs && w.runs:
		w.count()
		w.timer.Stop()
	}
	w.runs = runs
	if !holding {
		w.spent = 0
	}
}

func (w *ClientWait) set() {
	next := min(w.limit-w.spent, max(w.limit/samples, time.Millisecond))
	if w.timer == nil {
		w.timer = time.AfterFunc(next, w.look)
	} else {
		w.timer.Reset(next)
	}
}

// count counts the time since it was last counted, unless another goroutine works
// with the database: then the client waits for the unit. The caller holds mu.
func (w *ClientWait) count() {
	now := time.Now()
	if w.scope.Idle() {
		w.spent += now.Sub(w.since)
	}
	w.since = now
}

// look is called by the timer.
func (w *ClientWait) look() {
	w.mu.Lock()
	if !w.runs { // it was too late to stop the timer
		w.mu.Unlock()
		return
	}
	w.count()
	if w.spent < w.limit {
		w.set()
		w.mu.Unlock()
		return
	}
	w.pass(w.inside[0] == 0)
}

// pass does what follows from the limit. The caller holds mu, which it unlocks.
func (w *ClientWait) pass(sending bool) {
	late := &SlowClientError{w.limit, sending}
	inside := w.inside
	w.late, w.done, w.runs = late, make(chan struct{}), false
	w.mu.Unlock()
	defer close(w.done)
	defer func() {
		p := recover() // in the timer's goroutine it would end the program, and not the request
		w.mu.Lock()
		w.panicked = p
		w.mu.Unlock()
	}()
	w.side.Fail(late)
	err := w.scope.Abort(context.Background(), late)
	w.side.Wake(inside[0] > 0, inside[1] > 0)
	if err != nil {
		err = fmt.Errorf("%w; rolling it back: %w", late, err)
	}
	w.side.Report(cmp.Or[error](err, late))
}

func index(sending bool) int {
	if sending {
		return 1
	}
	return 0
}
