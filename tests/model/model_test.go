package model_test

import (
	"context"
	"database/sql"
	"slices"

	"github.com/dbscope/dbscope"
)

// model says what a program must store, which error each call must have, and
// which hooks must run, in which order. It knows nothing of connections.
type model struct {
	kind  *kind
	first bool  // it decides what the program does, as a step that would wait for a lock is skipped
	order order // of ends that run side by side
	cuts  map[*body]cut

	unfounded bool // a function was cut short though no other one had failed
	dbs       [2]modelDB
}

type modelDB struct {
	stored []int
	faults []*step // injected, in order
	txs    []*tx   // that have begun
}

// scope is one unit of work.
type scope struct {
	txs      [2]*tx
	used     []int // databases, in the order of first use
	hooks    []*hooked
	hooked   bool // there has been one
	marked   bool
	ended    bool
	result   outcome
	together bool   // with others of its Group
	reports  *[]int // of OnHookError
}

// tx is a transaction, before its BEGIN too.
type tx struct {
	scope  *scope
	db     int
	begun  bool
	over   bool
	state  state
	rows   []*step
	blocks []*block // open, innermost last
	doomed *block   // the innermost one when it was
	result outcome

	running  *step // another goroutine's statement
	deserted bool  // it was ended meanwhile, and is undone as the statement returns
	reader   *step // another goroutine's, whose rows are open
}

// state is what failures have done to a transaction; the worst one counts.
type state int

const (
	intact  state = iota
	aborted       // undone by a rollback to a savepoint
	doomed        // undone by a rollback to a savepoint from before that
	gone          // the server has none any more
)

var stateAfter = map[failure]state{harmless: intact, aborting: aborted, undoing: gone, losing: gone}

// block is one of Atomic.
type block struct {
	*tx
	kind  blockKind
	nest  bool   // begun by a handle, not by Atomic
	start int    // how many rows were there before
	below *block // in the same transaction
	outer *block // around its context
	over  bool
}

type blockKind int

const (
	savepoint blockKind = iota
	fromStart           // nested, when nothing had begun
	owner               // its end is the transaction's
)

// env is a function's context, and what the program remembers of it.
type env struct {
	scope     *scope
	block     *block // the innermost around the context
	above     *env   // the context it is derived from
	outer     *env   // the function around this one
	cancelled bool
	trace     *trace
}

func (e *env) done() bool { return e != nil && (e.cancelled || e.above.done()) }

// uncancelled is the same context without its cancellation.
func (e *env) uncancelled() *env { return &env{scope: e.scope, block: e.block, trace: e.trace} }

func (e *env) at(up int) *env {
	for ; up > 0 && e.outer != nil; up-- {
		e = e.outer
	}
	return e
}

// tx is the scope's transaction, or the one to come.
func (sc *scope) tx(db int) *tx {
	if !slices.Contains(sc.used, db) {
		sc.used = append(sc.used, db)
	}
	if sc.txs[db] == nil {
		sc.txs[db] = &tx{scope: sc, db: db}
	}
	return sc.txs[db]
}

// open yields the transactions, or those to come, in the order of first use.
func (sc *scope) open() (txs []*tx) {
	for _, db := range sc.used {
		if t := sc.txs[db]; t != nil {
			txs = append(txs, t)
		}
	}
	return txs
}

func (t *tx) top() *block {
	if len(t.blocks) == 0 {
		return nil
	}
	return t.blocks[len(t.blocks)-1]
}

// open reports whether there is something to end.
func (t *tx) open() bool {
	return t.begun || len(t.blocks) > 0 || t.state != intact || t.running != nil
}

func (t *tx) fail(f failure) { t.state = max(t.state, stateAfter[f]) }

// misplaced is the answer to a statement whose context is not the innermost
// block's.
func (e *env) misplaced(t *tx) []error {
	top := t.top()
	for top != nil && top.nest { // its statements come with any context
		top = top.below
	}
	in := e.block
	for in != nil && (in.scope != e.scope || in.db != t.db) {
		in = in.outer
	}
	switch {
	case in == top:
		return nil
	case in != nil && in.over:
		return []error{sql.ErrTxDone}
	}
	return []error{dbscope.ErrSessionBusy}
}

// refusals are the rules that forbid a statement.
func (e *env) refusals(t *tx) []error {
	reasons := e.misplaced(t)
	if t.running != nil || t.reader != nil {
		reasons = append(reasons, dbscope.ErrSessionBusy)
	}
	if t.state != intact {
		reasons = append(reasons, dbscope.ErrRolledBack)
	}
	if e.done() {
		reasons = append(reasons, context.Canceled)
	}
	return reasons
}

// fault takes the next one injected for a step of the kind.
func (m *model) fault(db int, kind string) *step {
	d := &m.dbs[db]
	i := slices.IndexFunc(d.faults, func(s *step) bool { return s.fault.kind == kind })
	if i < 0 {
		return nil
	}
	s := d.faults[i]
	d.faults = slices.Delete(d.faults, i, i+1)
	return s
}

// locked reports whether another transaction than the scope's keeps the
// database's only writer.
func (m *model) locked(sc *scope, db int) bool {
	own := sc.txs[db]
	return m.kind.oneWriter && (own == nil || !own.begun) && slices.ContainsFunc(m.dbs[db].txs, func(t *tx) bool {
		return t.begun && (!t.over || t.deserted) && t.state != gone
	})
}

func (m *model) store(e *env, s *step) expected {
	t, x := m.admit(e, s)
	if t == nil {
		return x
	}
	return m.execute(t, s)
}

// admit begins the transaction for a statement, or says why not.
func (m *model) admit(e *env, s *step) (*tx, expected) {
	t, x := m.take(e, s)
	if t == nil {
		return nil, x
	}
	if x = m.begin(t); !x.isNil() {
		return nil, x
	}
	return t, x
}

// take is for a statement that may begin the transaction next.
func (m *model) take(e *env, s *step) (*tx, expected) {
	if e.scope.ended {
		return nil, is(dbscope.ErrScopeEnded)
	}
	if m.first {
		s.skipped = m.locked(e.scope, s.db)
	}
	if s.skipped {
		return nil, expected{}
	}
	t := e.scope.tx(s.db)
	if reasons := e.refusals(t); len(reasons) > 0 {
		return nil, refused(reasons)
	}
	return t, expected{}
}

func (m *model) begin(t *tx) expected {
	if t.begun {
		return expected{}
	}
	for {
		f := m.fault(t.db, "begin")
		if f == nil {
			break
		}
		if f.fault.fate != losing { // else BEGIN is tried on another connection
			t.doom()
			return is(f.err)
		}
	}
	t.begun = true
	m.dbs[t.db].txs = append(m.dbs[t.db].txs, t)
	return expected{}
}

// execute is what an admitted statement does.
func (m *model) execute(t *tx, s *step) expected {
	fate, fails := m.kind.fates[s.failure]
	switch {
	case !fails:
		t.rows = append(t.rows, s)
		return expected{}
	case m.kind.inject:
		t.fail(fate)
		return is(s.err)
	}
	t.fail(fate)
	return expected{failed: true}
}

func (m *model) atomic(e, at *env, s *step) (expected, *body) {
	if at.scope.ended {
		return is(dbscope.ErrScopeEnded), nil
	}
	t := at.scope.tx(s.db)
	if (s.mode == commitOpen || s.mode == rollbackOpen) && !t.scope.together && t.open() {
		if x, p := m.endEarly(at, t, s.mode == commitOpen, nil); p != nil || !x.isNil() {
			return x, p
		}
		t = at.scope.tx(s.db)
	}
	reasons := at.refusals(t)
	inside := len(t.blocks) > 0 || t.scope.together
	if inside && s.mode != nested || t.begun && s.mode == reject {
		reasons = append(reasons, dbscope.ErrOpenTransaction)
	}
	if len(reasons) > 0 {
		return refused(reasons), nil
	}
	b := &block{tx: t, start: len(t.rows), below: t.top(), outer: at.block}
	switch {
	case !inside && (!t.begun || s.mode == appendOpen):
		b.kind = owner
	case !t.begun:
		b.kind = fromStart
	default:
		if f := m.fault(s.db, "savepoint"); f != nil {
			t.fail(f.fault.fate)
			return is(f.err), nil
		}
	}
	t.blocks = append(t.blocks, b)
	return m.inBlock(e, &env{scope: at.scope, block: b, above: at, outer: e, trace: e.trace}, s, b)
}

// rollback is the error of a ROLLBACK, which undoes in any case.
func (m *model) rollback(t *tx) expected {
	if t.state != gone {
		if f := m.fault(t.db, "rollback"); f != nil {
			return is(f.err)
		}
	}
	return expected{}
}
