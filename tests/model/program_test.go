package model_test

import (
	"fmt"
	"strings"
)

// program is what a unit of work might do. Each of its steps runs once at most.
type program struct{ main *body }

// body is a function: of a Run, an Atomic block, a member of a Group, a hook.
type body struct {
	number int
	steps  []*step
	ending ending
	err    *stop // what it returns, or panics with, by its ending
}

type ending int

const (
	returnNil ending = iota
	returnError
	panics
)

// stop is a body's own error.
type stop struct{ number int }

func (e *stop) Error() string { return fmt.Sprintf("the error of function %d", e.number) }

type act int

const (
	store act = iota
	atomicBlock
	run
	group
	hook
	commitDB
	rollbackDB
	releaseDB
	cancel
	markRollback
	commitScope
	rollbackScope
	inject // the database's next step of a kind fails
	nest   // a transaction nested by a handle
	linger // another goroutine's statement, which runs until it is awaited
	read   // another goroutine's rows, open until it is awaited
	await  // the first of those that no step has awaited goes on, and is waited for
)

// step is one call, on the database db where it has one, with the context that
// the function got which is up levels further out.
type step struct {
	number   int
	act      act
	db       int
	up       int
	failure  failure  // of store
	mode     mode     // of atomicBlock
	query    bool     // linger waits for rows, and reads them
	moment   moment   // of hook
	ofScope  bool     // a hook of the scope, not of one database
	together bool     // of group
	aside    bool     // the members of group run side by side
	hasty    bool     // and none waits for the others before it returns
	fault    fault    // of inject
	bodies   []*body  // one, or a Group's members
	beside   *step    // what another goroutine does while the block or the unit ends
	late     bool     // beside waits until that has ended
	after    *step    // what is stored after both, with the transaction's handle; not after a unit
	returns  bool     // its error ends the function, else it is ignored
	recovers bool     // a panic in it goes no further
	err      *injured // of a failing statement, or an injected fault

	// The model's findings.
	skipped    bool // it would wait for a lock of the program's own
	lingers    bool // the statement runs until it is awaited, else it was refused
	sequential bool // the members must not run side by side
}

// injured is an error that a fake database was told to return.
type injured struct{ number int }

func (e *injured) Error() string { return fmt.Sprintf("the failure of step %d", e.number) }

// failure is how a statement fails.
type failure int

const (
	sound     failure = iota
	harmless          // the transaction goes on
	aborting          // the server accepts only a rollback, whole or to a savepoint
	undoing           // the server has rolled the transaction back
	losing            // the connection is lost
	duplicate         // of a row that is stored already
	misspelt          // the table does not exist
	orphan            // it succeeds, and COMMIT fails
)

type mode int

const (
	nested mode = iota
	commitOpen
	rollbackOpen
	appendOpen
	reject
)

type moment int

const (
	beforeCommit moment = iota
	afterCommit
	afterRollback
)

// fault is what a fake database was told to do. Of a commit, state counts, else
// fate does.
type fault struct {
	kind  string
	fate  failure // harmless to losing
	state outcome // rolledBack or unknown
	done  bool    // the commit took effect
}

type outcome int

const (
	committed outcome = iota
	rolledBack
	unknown
)

var (
	dbNames       = [...]string{"A", "B"}
	failureNames  = [...]string{"", "harmless", "aborts", "undoes", "loses the connection", "duplicate", "no such table", "fails the commit"}
	modeNames     = [...]string{"", "CommitOpen", "RollbackOpen", "Append", "Reject"}
	momentNames   = [...]string{"BeforeCommit", "AfterCommit", "AfterRollback"}
	outcomeNames  = [...]string{"committed", "rolled back", "unknown"}
	endingFormats = [...]string{"return nil", "return error %d", "panic %d"}
	simpleNames   = map[act]string{
		await: "await another goroutine", commitDB: "Commit", rollbackDB: "Rollback", releaseDB: "Release", cancel: "cancel its context",
		markRollback: "MarkRollback", commitScope: "Scope.Commit", rollbackScope: "Scope.Rollback",
	}
)

func (s *step) String() string {
	var text string
	db := dbNames[s.db]
	switch s.act {
	case store:
		text = db + ": store"
		if s.failure != sound {
			text += " (" + failureNames[s.failure] + ")"
		}
	case atomicBlock:
		text = db + ".Atomic " + modeNames[s.mode]
	case nest:
		text = db + ": nested by a handle"
	case linger, read:
		text = db + ": another goroutine's " + map[act]string{linger: "statement", read: "rows"}[s.act]
		switch {
		case s.query:
			text += " (a query)"
		case s.failure != sound:
			text += " (" + failureNames[s.failure] + ")"
		}
	case run:
		text = "Run"
	case group:
		text = "Group, one after the other"
		if s.aside && !s.sequential {
			text = "Group, side by side"
			if s.hasty {
				text += " in haste"
			}
		}
		if s.together {
			text += ", CommitTogether"
		}
	case hook:
		text = momentNames[s.moment]
		if !s.ofScope {
			text = db + "." + text
		}
	case inject:
		text = fmt.Sprintf("%s: the next %q fails: %s", db, s.fault.kind, failureNames[s.fault.fate])
		if s.fault.kind == "commit" {
			text = fmt.Sprintf("%s: the next commit answers %s, done: %v", db, outcomeNames[s.fault.state], s.fault.done)
		}
	case commitDB, rollbackDB, releaseDB:
		text = db + "." + simpleNames[s.act]
	default:
		text = simpleNames[s.act]
	}
	if s.beside != nil {
		text += fmt.Sprintf(", beside%s whose end runs %d. %v",
			map[bool]string{true: " and after"}[s.late], s.beside.number, s.beside)
	}
	if s.up > 0 {
		text += fmt.Sprintf(", context %d out", s.up)
	}
	if s.returns {
		text += ", returning its error"
	}
	if s.recovers {
		text += ", recovering"
	}
	if s.skipped {
		text += " (skipped: it would wait for a lock)"
	}
	return text
}

// String shows the program as an outline.
func (p *program) String() string {
	var b strings.Builder
	b.WriteString("dbscope.Run\n")
	p.main.print(&b, 1)
	return b.String()
}

// GoString is for rapid's report of what was drawn.
func (p *program) GoString() string { return "\n" + p.String() }

func (f *body) print(b *strings.Builder, depth int) {
	indent := strings.Repeat("    ", depth)
	for _, s := range f.steps {
		fmt.Fprintf(b, "%s%d. %v\n", indent, s.number, s)
		for _, inner := range s.bodies {
			inner.print(b, depth+1)
		}
	}
	text := endingFormats[f.ending]
	if f.ending != returnNil {
		text = fmt.Sprintf(text, f.number)
	}
	fmt.Fprintf(b, "%s%s\n", indent, text)
}
