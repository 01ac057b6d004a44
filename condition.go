package dbscope

import (
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
)

// condition says whether a transaction can be committed, and why it cannot.
//
//	from             by                                                  to
//	sound            a failed statement, as its Fate says                aborted, undone, lost
//	sound, aborted   doom: the core lets only a rollback through         doomed
//	aborted          a failed statement                                  undone, lost
//	aborted          a savepoint gone back to                            sound
//	doomed           a failed statement                                  undone, lost
//	doomed           the undoing of a block that contains what doomed it sound
//	undone           a lost connection                                   lost
//	any              a new transaction                                   sound
type condition struct {
	state state
	why   error // it can only be undone; nil where it is sound
	depth int   // doomed: how many blocks were open when that was decided
}

type state uint8

const (
	sound   state = iota
	aborted       // the server refuses all but a rollback, whole or to a savepoint
	doomed        // the server would go on
	undone        // the server has ended it, and the connection is fine
	lost          // with the connection
)

// fail notes what a statement's failure did.
func (c *condition) fail(fate driver.Fate, err error) {
	to := sound
	switch fate {
	case driver.Intact:
		return
	case driver.Aborted:
		to = aborted
	case driver.Undone:
		to = undone
	case driver.Lost:
		to = lost
	}
	if c.why == nil {
		c.why = err
	}
	c.state = max(c.state, to)
}

// doom lets nothing but a rollback through, though the server would: of all, or of
// a block that is open now, of which there are depth.
func (c *condition) doom(err error, depth int) {
	if c.state <= aborted {
		*c = condition{doomed, errs.Joined(err, c.why), depth}
	}
}

// lift notes that an aborted transaction is so no more.
func (c *condition) lift() {
	if c.state == aborted {
		*c = condition{}
	}
}

// blockUndone notes that the block at the depth was undone, and all in it.
func (c *condition) blockUndone(depth int) {
	if c.state == doomed && c.depth >= depth {
		*c = condition{}
	}
}

// runs reports whether a statement may be sent: an aborted transaction takes the
// one that goes back to a savepoint.
func (c *condition) runs() bool { return c.state <= aborted }

// gone reports whether the transaction no longer exists on the server.
func (c *condition) gone() bool { return c.state >= undone }
