package dbscope

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how often, and after what waits, a unit of work is run
// again. The zero value is the default of each field.
type RetryPolicy struct {
	Attempts int           // the first included; the default is 5
	MinDelay time.Duration // before the second attempt, doubled for each further one; the default is 10 ms
	MaxDelay time.Duration // the longest wait; the default is 1 s
}

// Retry runs the unit's function again when the database undid its work for a
// reason that need not happen again: a serialization failure, a deadlock, a
// database that is busy, a table that was altered under a prepared statement,
// also when COMMIT says so; docs/retry.md lists the errors. Only errors of the
// database libraries count, also where errors of yours wrap them. Waits are drawn
// at random from the upper half of what the policy says; after the last attempt
// the error says how many there were. Each attempt is a new unit with hooks of
// its own. There is none after anything of the unit was committed, when an
// outcome is unknown, and once the context is done. The default is one attempt.
//
// For [DB.Atomic] it counts where the block's transaction is its own. What fn did
// with other databases, or other sessions, prevents another attempt, and so does
// a hook of the DB that was registered before the block: it has had its end.
func Retry(policy RetryPolicy) UnitOption {
	if policy.Attempts <= 0 {
		policy.Attempts = 5
	}
	if policy.MinDelay <= 0 {
		policy.MinDelay = 10 * time.Millisecond
	}
	if policy.MaxDelay <= 0 {
		policy.MaxDelay = time.Second
	}
	return func(o *unitOptions) { o.retry = &policy }
}

// wait blocks before the attempt after the given one. Where there is none it
// returns the error to report, else nil.
func (p *RetryPolicy) wait(ctx context.Context, attempt int, err error) error {
	if attempt >= p.Attempts {
		return fmt.Errorf("dbscope: %d attempts failed, the last with: %w", attempt, err)
	}
	delay := p.MinDelay
	for n := 1; n < attempt && delay < p.MaxDelay; n++ {
		delay = min(2*delay, p.MaxDelay)
	}
	delay = min(delay, p.MaxDelay)
	timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return joined(err, fmt.Errorf("dbscope: no further attempt: %w", interrupted(ctx)))
	}
}

// noteError keeps a statement's failure for a scope that is undone without an
// error that tells why.
func (s *session) noteError(err error) {
	if s.slot != nil && s.slot.scope.opts.retry != nil && s.db.transient(err) {
		s.slot.scope.met.Store(true)
	}
}

// note keeps what the end of one of its sessions decides about another attempt.
func (s *Scope) note(ss *session, o Outcome) {
	if s.opts.retry != nil && ss.mayWork(o.Err) {
		s.transient.Store(true)
	}
}

// mayWork reports whether the work of a session that is over, or what ended it
// with the error, may succeed another time.
func (s *session) mayWork(err error) bool {
	return s.lostCommit || s.db.transient(err) || s.db.transient(s.brokenError())
}

// Again reports whether a unit that was undone is to be run again, in a new
// scope, and blocks for the wait before it, or until ctx is done. err is what
// the unit ended with, nil where that was no error; attempt counts from 1. It
// is for writers of middlewares, after the scope's end; [Run] does it.
func (s *Scope) Again(ctx context.Context, attempt int, err error) bool {
	return s.again(ctx, attempt, &err)
}

func (s *Scope) again(ctx context.Context, attempt int, err *error) bool {
	p := s.opts.retry
	if p == nil || !s.Transient(*err) && (*err != nil || !s.repeatable() || !s.met.Load()) {
		return false
	}
	failed := p.wait(ctx, attempt, *err)
	if failed != nil {
		*err = failed
	}
	return failed == nil
}

// Transient reports whether a unit that was undone may succeed when its caller
// asks for it again, whole: nothing of it is committed or may be, and err, with
// which its commit failed, is one that [Retry] would act on. It is for writers
// of middlewares, who tell the client so. It does not block.
func (s *Scope) Transient(err error) bool {
	return s.repeatable() && (s.transient.Load() || s.knows(err))
}

// repeatable reports whether the unit left nothing that a repetition would
// double, and was not undone by choice.
func (s *Scope) repeatable() bool {
	return !s.committed.Load() && !s.rollbackOnly.Load() && s.why.Load() == nil
}

// knows reports whether one of the scope's databases calls the error transient.
func (s *Scope) knows(err error) bool {
	for sl := s.first.Load(); sl != nil; sl = sl.next.Load() {
		if sl.db.transient(err) {
			return true
		}
	}
	return false
}
