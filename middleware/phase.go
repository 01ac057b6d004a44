package middleware

import "cmp"

type phase uint8

const (
	undecided phase = iota
	deciding
	sending // the first message was let through
	failed
	over
)

// begin lets messages through, unless the client was too slow meanwhile.
func (u *Unit[R]) begin() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == deciding {
		u.phase = sending
	}
	return u.failure
}

// enter returns the phase before.
func (u *Unit[R]) enter(p phase, failure error) phase {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.phase
	if was != over { // which a goroutine that the handler left behind does not change
		u.phase, u.failure = p, cmp.Or(failure, u.failure)
	}
	return was
}
