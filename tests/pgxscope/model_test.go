package pgxscope_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// DBSCOPE_LONG=1 runs many sequences; DBSCOPE_MODEL=SEED/NUMBER runs one again,
// as a failure prints it.
const (
	longVariable  = "DBSCOPE_LONG"
	againVariable = "DBSCOPE_MODEL"
)

func TestRandomUnitsOfWorkStoreExactlyTheRowsThatTheModelSays(t *testing.T) {
	seed, first, last := rand.Uint64(), 0, 4_000
	if os.Getenv(longVariable) != "" {
		last = 100_000
	}
	workers := 2 * runtime.GOMAXPROCS(0)
	if again := os.Getenv(againVariable); again != "" {
		if _, err := fmt.Sscanf(again, "%d/%d", &seed, &first); err != nil {
			t.Fatalf("%s=%s: want SEED/NUMBER: %v", againVariable, again, err)
		}
		last, workers = first+1, 1
	}
	m := &modelRun{seed: seed, dsn: pgtest.Shared(t).CreateDatabase(t), again: workers == 1}
	var create strings.Builder
	for worker := range workers {
		for i := range modes {
			table := tableOf(worker, i)
			fmt.Fprintf(&create, "CREATE TABLE %[1]s (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES %[1]s (id) DEFERRABLE INITIALLY DEFERRED); "+
				"INSERT INTO %[1]s (id) VALUES (0); ", table)
		}
	}
	pgtest.Shared(t).Query(t, m.dsn, create.String())

	start := time.Now()
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			if err := m.work(t.Context(), worker, first, last, workers); err != nil {
				m.failed.Store(true)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sequences of seed %d in %v: %d transactions committed, %d rolled back, %d unknown; %d statements stored, %d failed",
		m.sequences.Load(), seed, time.Since(start).Round(time.Millisecond),
		m.committed.Load(), m.rolledBack.Load(), m.unknown.Load(), m.succeeded.Load(), m.refused.Load())
}

func tableOf(worker, mode int) string { return fmt.Sprintf("t_%d_%d", worker, mode) }

// modelRun is what the workers share.
type modelRun struct {
	dsn   string
	seed  uint64
	again bool // one sequence, on a connection that is new, and used

	failed                                                                atomic.Bool
	sequences, committed, rolledBack, unknown, succeeded, refused, nextID atomic.Int64
}

// work runs every workers-th sequence.
func (m *modelRun) work(ctx context.Context, worker, first, last, workers int) (err error) {
	checker, err := pgx.Connect(ctx, m.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, checker.Close(context.WithoutCancel(ctx))) }()
	sites := make([]*site, len(modes))
	for i, mode := range modes {
		sites[i] = newSite(m.dsn, mode, tableOf(worker, i), checker)
		defer func() { err = errors.Join(err, sites[i].db.Close()) }()
	}
	for number := first + worker; number < last && !m.failed.Load(); number += workers {
		s := newSequence(m.seed, number)
		times := 1
		if m.again {
			times = 3
		}
		for range times {
			if err := m.try(ctx, sites[s.mode], s); err != nil {
				err = m.shorten(ctx, sites[s.mode], s, err)
				return fmt.Errorf("%w\nagain: %s=%d/%d (the connection was used before by sequence %d)",
					err, againVariable, m.seed, number, sites[s.mode].previous)
			}
		}
		sites[s.mode].previous = number
	}
	return nil
}

// site is one worker's database in one mode. Its pool has one connection, so
// that one that is not given back is noticed.
type site struct {
	db       *pgxscope.DB
	table    string
	checker  *pgx.Conn
	previous int

	latest atomic.Pointer[pgx.Conn]
}

func newSite(dsn string, mode pgx.QueryExecMode, table string, checker *pgx.Conn) *site {
	s := &site{table: table, checker: checker, previous: -1}
	s.db = pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 1
		config.ConnConfig.DefaultQueryExecMode = mode
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off" // nobody kills the server here
		config.ConnConfig.RuntimeParams["log_min_messages"] = "panic" // errors are what this is about
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &deafConn{Conn: c}, err
		}
		config.AfterConnect = func(_ context.Context, c *pgx.Conn) error { s.latest.Store(c); return nil }
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Name("test"))
	return s
}

// deafConn is a connection that can stop to hear the server's answers, while
// what it says still arrives.
type deafConn struct {
	net.Conn
	deaf atomic.Bool
}

func (c *deafConn) Read(b []byte) (int, error) {
	if c.deaf.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if c.deaf.Load() { // pgx may have begun to read before, where a write was slow
		return 0, io.EOF
	}
	return n, err
}

// act is what a step does.
type act int

const (
	runStatement act = iota
	runOnEndedHandle
	beginNested
	commitNested
	rollBackNested
	commitDB
	rollBackDB
	releaseDB
	commitHandle
	rollBackHandle
	markRollback
	execCommit
	terminate     // the server ends the connection, between two statements
	terminateSelf // the server ends it in the middle of a statement
	hangUp        // the client's end of the connection is closed
	goDeaf        // answers no longer arrive
)

var acts = [...]string{
	"statement", "statement on a handle that is over", "begin nested", "commit nested", "roll back nested",
	"DB.Commit", "DB.Rollback", "DB.Release", "Commit of the handle", "Rollback of the handle", "MarkRollback", "ExecCommit",
	"the server ends the connection", "the server ends the connection during a statement",
	"the client's end of the connection is closed", "answers no longer arrive",
}

// fault is how a statement fails.
type fault int

const (
	sound     fault = iota
	toPrepare       // its table does not exist
	toExecute       // its id is stored already
	toCommit        // its parent does not exist, which the commit finds out
)

var faults = [...]string{"", ", fails to prepare", ", fails to execute", ", fails the commit"}

type step struct {
	act     act
	kind    string // of statement
	fault   fault
	back    int  // how many nested transactions further out than the innermost
	returns bool // an error ends the unit, else it is ignored
}

func (s step) String() string {
	text := acts[s.act]
	if s.act == execCommit {
		text += faults[s.fault]
	}
	if s.act == runStatement {
		text = s.kind + faults[s.fault]
	}
	if s.back > 0 && (s.act == commitNested || s.act == rollBackNested) {
		text += fmt.Sprintf(" (%d further out)", s.back)
	}
	if s.returns {
		text += " (an error ends the unit)"
	}
	return text
}

// ending is how a unit ends, unless a step's error ends it.
type ending int

const (
	returnNil ending = iota
	returnError
	panics
	releaseScope
	commitScope
)

var endings = [...]string{"return nil", "return an error", "panic", "Release of the scope", "Commit of the scope"}

type sequence struct {
	number  int
	mode    int
	fresh   bool // on a new connection
	network bool // the connection will break
	reader  bool // a read-only unit comes before, whose end nobody waits for
	steps   []step
	ending  ending
}

// The kinds of statement besides those of the other tests.
const (
	onHandle  = "Exec on the handle"
	sqlNested = "SQL, nested"
)

var kinds = append(slices.Sorted(maps.Keys(statements)), onHandle, sqlNested)

func newSequence(seed uint64, number int) *sequence {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	s := &sequence{number: number, mode: r.IntN(len(modes)), fresh: r.IntN(20) == 0, network: r.IntN(30) == 0, reader: r.IntN(3) == 0}
	// Most units want to commit: in the others there is little to go wrong.
	s.ending = pick[ending](r, []int{returnNil: 70, returnError: 8, panics: 4, releaseScope: 8, commitScope: 10})
	for range 1 + r.IntN(8) {
		st := step{act: pick[act](r, []int{
			runStatement: 60, runOnEndedHandle: 2, beginNested: 10, commitNested: 7, rollBackNested: 6,
			commitDB: 4, rollBackDB: 2, releaseDB: 3, commitHandle: 3, rollBackHandle: 2, markRollback: 1,
			execCommit: 8,
		}), kind: kinds[r.IntN(len(kinds))], returns: r.IntN(3) == 0}
		st.fault = pick[fault](r, []int{sound: 84, toPrepare: 7, toExecute: 6, toCommit: 3})
		if st.act == runStatement && st.fault == toCommit {
			st.kind = "Exec"
		}
		if r.IntN(5) == 0 {
			st.back = 1
		}
		s.steps = append(s.steps, st)
	}
	if r.IntN(2) == 0 { // else what is open at the end fails the commit
		for i := range s.steps {
			if s.steps[i].act == beginNested {
				s.steps = append(s.steps, step{act: pick[act](r, []int{commitNested: 2, rollBackNested: 1})})
			}
		}
	}
	if s.network {
		breaks := [...]act{terminate, terminateSelf, hangUp, goDeaf}
		at := r.IntN(len(s.steps) + 1)
		if r.IntN(3) == 0 {
			at = len(s.steps)
		}
		s.steps = slices.Insert(s.steps, at, step{act: breaks[r.IntN(len(breaks))]})
	}
	return s
}

// pick returns an index, each as often as its weight says.
func pick[T ~int](r *rand.Rand, weights []int) T {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := r.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return T(i)
		}
	}
	panic("unreachable")
}

// attempt is a sequence that is run, beside the model of it.
type attempt struct {
	*site
	run   *modelRun
	seq   *sequence
	model *model
	ids   int // the first of those that are this attempt's own
	log   strings.Builder

	nested []pgx.Tx // handles of the open ones, outermost first
	ended  pgx.Tx   // a handle that is over
	cut    []uint32 // the server's processes whose connections were broken
}

const idsEach = 32 // more than a sequence has steps

// try runs a sequence; its error tells what is wrong, in full.
func (m *modelRun) try(ctx context.Context, on *site, s *sequence) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the sequence took too long"))
	defer cancel()
	a := &attempt{
		site: on, run: m, seq: s, ids: idsEach * int(m.nextID.Add(1)),
		model: &model{aborted: -1},
	}
	fmt.Fprintf(&a.log, "sequence %d, %s", s.number, modes[s.mode])
	if s.fresh {
		a.log.WriteString(", on a new connection")
		if err := a.reset(ctx); err != nil {
			return err
		}
	}
	if s.reader {
		a.log.WriteString(", after a unit that reads")
		if err := dbscope.Run(ctx, func(ctx context.Context) error {
			return a.db.QueryRow(ctx, "SELECT count(*) FROM "+a.table+" WHERE id = $1", -1).Scan(new(int))
		}, dbscope.ReadOnly()); err != nil {
			return complaint("a unit that only reads: %v", err)
		}
	}
	wrong := a.unit(ctx)
	if wrong == nil {
		wrong = a.check(ctx)
	}
	if wrong != nil {
		return fmt.Errorf("%s\n=> %w", a.log.String(), wrong)
	}
	m.sequences.Add(1)
	if s.network {
		return a.reset(ctx)
	}
	return nil
}

// shorten leaves out steps that have no part in a failure, and returns what is
// left of it. Where the failure needs what came before, that is all.
func (m *modelRun) shorten(ctx context.Context, on *site, s *sequence, err error) error {
	deadline := time.Now().Add(time.Minute)
	for i := len(s.steps) - 1; i >= 0 && errors.Is(err, errWrong) && time.Now().Before(deadline); i-- {
		shorter := *s
		shorter.steps = slices.Delete(slices.Clone(s.steps), i, i+1)
		if again := m.try(ctx, on, &shorter); errors.Is(again, errWrong) {
			s, err = &shorter, again
		}
	}
	return err
}

// reset closes the connection.
func (a *attempt) reset(ctx context.Context) error {
	pool, err := a.db.Pool(ctx)
	if err == nil {
		pool.Reset()
	}
	return err
}

// errWrong marks what the model objects to.
var errWrong = errors.New("this is wrong")

// unit runs the steps in one unit of work. Its error is the model's.
func (a *attempt) unit(ctx context.Context) error {
	var inside context.Context
	var wrong, fnErr error
	fn := func(ctx context.Context) error {
		inside = ctx //nolint:fatcontext // for a look at it after its end
		if wrong, fnErr = a.steps(ctx); wrong != nil {
			return wrong
		}
		if fnErr == nil && a.seq.ending == returnError {
			fnErr = errStop
		}
		return fnErr
	}
	ending := a.seq.ending
	fmt.Fprintf(&a.log, "; in the end %s", endings[ending])
	var err error
	switch ending {
	case releaseScope, commitScope:
		ctx, scope := dbscope.Begin(ctx)
		if err = fn(ctx); err == nil && ending == commitScope {
			err = scope.Commit(ctx)
			fmt.Fprintf(&a.log, "\n  Commit of the scope: %v", err)
			wrong = cmp.Or(wrong, a.model.commit(err, true))
		}
		if wrong == nil {
			err = scope.End(ctx)
			fmt.Fprintf(&a.log, "\n  Release of the scope: %v", err)
			wrong = a.model.rollBack(err, true)
		} else {
			_ = scope.End(ctx)
		}
	case panics:
		func() {
			defer func() { _ = recover() }()
			err = dbscope.Run(ctx, func(ctx context.Context) error {
				if err := fn(ctx); err != nil {
					return err
				}
				panic("on purpose")
			})
		}()
		if fnErr == nil && err != nil && wrong == nil {
			return complaint("Run returned %v instead of panicking", err)
		}
		if wrong == nil {
			wrong = a.model.undone(fnErr, err)
		}
	default:
		err = dbscope.Run(ctx, fn)
		fmt.Fprintf(&a.log, "\n  the unit: %v", err)
		switch {
		case wrong != nil:
		case fnErr != nil:
			wrong = a.model.undone(fnErr, err)
		default:
			wrong = a.model.commit(err, true)
		}
	}
	if wrong != nil {
		return wrong
	}
	if err := insert(inside, a.db, 0); !errors.Is(err, dbscope.ErrScopeEnded) {
		return complaint("a statement after the end: %v", err)
	}
	return nil
}

// steps runs the steps, each in the model too, until one returns an error.
func (a *attempt) steps(ctx context.Context) (wrong, err error) {
	for i, s := range a.seq.steps {
		wrong, err := a.step(ctx, s, a.ids+i)
		fmt.Fprintf(&a.log, "\n  %d. %s", i+1, s)
		if err != nil {
			fmt.Fprintf(&a.log, ": %v", err)
		}
		switch {
		case wrong != nil:
			return wrong, nil
		case err != nil && s.returns:
			return nil, err
		}
	}
	return nil, nil
}

// nests reports whether the statement is alone in a savepoint.
func (s step) nests() bool { return s.kind == "nested Begin" || s.kind == sqlNested }

func (a *attempt) step(ctx context.Context, s step, id int) (wrong, err error) {
	m := a.model
	idle := m.levels == nil
	// A transaction nested where nothing was done is none to the server. Those
	// are the business of the model in tests/model.
	if idle || !m.levels[0].sent {
		switch {
		case s.act == beginNested:
			return nil, nil
		case s.act == runStatement && s.nests():
			s.kind = "Exec"
		}
	}
	handle, err := a.db.Session(ctx)
	if err != nil {
		return complaint("no handle"), err
	}
	switch s.act {
	case runStatement:
		err = a.statement(ctx, s, id)
		if err == nil {
			a.run.succeeded.Add(1)
		} else {
			a.run.refused.Add(1)
		}
		return m.statement(s, id, err), err
	case runOnEndedHandle:
		if a.ended != nil {
			err = insert(ctx, a.ended, id)
			if !errors.Is(err, pgx.ErrTxClosed) {
				wrong = complaint("want %v", pgx.ErrTxClosed)
			}
		}
		return wrong, err
	case beginNested:
		tx, err := a.innermost(handle).Begin(ctx)
		if err == nil {
			a.nested = append(a.nested, tx)
		}
		return m.begin(err), err
	case commitNested, rollBackNested:
		index := len(a.nested) - 1 - s.back
		if index < 0 {
			return nil, nil
		}
		tx := a.nested[index]
		a.nested = a.nested[:index]
		if s.act == commitNested {
			err = tx.Commit(ctx)
			wrong = m.commitNested(index+1, err)
		} else {
			err = tx.Rollback(ctx)
			wrong = m.rollBackNested(index+1, err)
		}
		if wrong == nil && insert(ctx, tx, id) == nil {
			wrong = complaint("a statement in it went on")
		}
		return wrong, err
	case commitDB:
		if err = a.db.Commit(ctx); idle {
			return wantNothing(err), err
		}
		wrong = m.commit(err, false)
	case execCommit:
		err = a.execCommit(ctx, s, id)
		wrong = m.execCommit(s, id, err)
	case commitHandle:
		err = handle.Commit(ctx)
		wrong = m.commit(err, false)
	case rollBackDB:
		if err = a.db.Rollback(ctx); idle {
			return wantNothing(err), err
		}
		wrong = m.rollBack(err, false)
	case rollBackHandle:
		err = handle.Rollback(ctx)
		wrong = m.rollBack(err, false)
	case releaseDB:
		if err = a.db.Release(ctx); idle {
			return wantNothing(err), err
		}
		wrong = m.rollBack(err, false)
	case markRollback:
		m.marked = true
		return dbscope.MarkRollback(ctx), nil
	case terminateSelf:
		a.willCut()
		_, err = a.db.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
		return m.terminateSelf(err), err
	case terminate, hangUp, goDeaf:
		return a.sever(ctx, s.act), nil
	}
	if m.levels == nil {
		a.ended = handle
	}
	return wrong, err
}

func (a *attempt) innermost(handle pgx.Tx) pgx.Tx {
	if n := len(a.nested); n > 0 {
		return a.nested[n-1]
	}
	return handle
}

var errNoConn = errors.New("there is no connection")

func (a *attempt) statement(ctx context.Context, s step, id int) error {
	table := a.table
	switch s.fault {
	case toPrepare:
		table = "nowhere"
	case toExecute:
		id = 0
	case toCommit:
		_, err := a.db.Exec(ctx, "INSERT INTO "+table+" (id, parent) VALUES ($1, -1)", id)
		return err
	}
	handle, err := a.db.Session(ctx)
	if err != nil {
		return err
	}
	switch s.kind {
	case onHandle:
		_, err := a.innermost(handle).Exec(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
		return err
	case sqlNested:
		tx, err := a.db.SQL().BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	case "Conn":
		if handle.Conn() == nil {
			return errNoConn
		}
	}
	return statements[s.kind](ctx, a.db, table, id)
}

func (a *attempt) execCommit(ctx context.Context, s step, id int) error {
	table := a.table
	switch s.fault {
	case toPrepare:
		table = "nowhere"
	case toExecute:
		id = 0
	case toCommit:
		_, err := a.db.ExecCommit(ctx, "INSERT INTO "+table+" (id, parent) VALUES ($1, -1)", id)
		return err
	}
	_, err := a.db.ExecCommit(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
	return err
}

// willCut notes the server's process, which may end some time after its
// connection.
func (a *attempt) willCut() {
	if c := a.latest.Load(); c != nil {
		a.cut = append(a.cut, c.PgConn().PID())
	}
}

// sever breaks the connection while it is idle.
func (a *attempt) sever(ctx context.Context, how act) error {
	c := a.latest.Load()
	if c == nil {
		return nil
	}
	a.willCut()
	a.model.sever()
	switch how {
	case terminate:
		_, err := a.checker.Exec(ctx, "SELECT pg_terminate_backend($1, 10000)", c.PgConn().PID())
		return err
	case hangUp:
		_ = c.PgConn().Conn().Close() // it may be closed already
	case goDeaf:
		c.PgConn().Conn().(*deafConn).deaf.Store(true)
	}
	return nil
}

// check compares the table with the model.
func (a *attempt) check(ctx context.Context) error {
	if a.cut != nil {
		if err := a.reset(ctx); err != nil {
			return err
		}
		for n := 1; n > 0; { // what was sent may be on its way still
			if err := a.checker.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", a.cut).Scan(&n); err != nil {
				return err
			}
		}
	}
	rows, err := a.checker.Query(ctx, "SELECT id FROM "+a.table+" WHERE id >= $1 AND id < $2 ORDER BY id", a.ids, a.ids+idsEach)
	if err != nil {
		return err
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	m := a.model
	a.run.committed.Add(int64(m.commits))
	a.run.rolledBack.Add(int64(m.rollbacks))
	a.run.unknown.Add(int64(len(m.unknown)))
	want := slices.Clone(m.stored)
	for _, ids := range m.unknown {
		if slices.ContainsFunc(ids, func(id int) bool { return slices.Contains(got, id) }) {
			want = append(want, ids...) // all of them, then
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		number := func(ids []int) []int {
			var steps []int
			for _, id := range ids {
				steps = append(steps, id-a.ids+1)
			}
			return steps
		}
		return complaint("stored are the rows of steps %v, want those of %v", number(got), number(want))
	}
	return nil
}

func complaint(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, args...))
}

// model says what must be stored. Its methods follow a step and its error, and
// object to an error that must not be, or is missing.
type model struct {
	// The open transaction: nil where there is none. The first level is the
	// whole, each other a savepoint.
	levels  []level
	aborted int  // the level in which the server refuses all statements, or -1
	dead    bool // nothing but the end of the transaction helps
	// mayBeDead: what failed may have been the connection, or a savepoint that
	// was refused, so that there is perhaps nothing to go back to.
	mayBeDead bool
	cut       bool // the transaction's connection is broken

	severed bool // the next connection may be broken
	marked  bool

	stored             []int
	unknown            [][]int // each is stored as a whole, or not at all
	commits, rollbacks int
}

type level struct {
	rows []modelRow
	sent bool // the server knows of it, unless it refused
}

type modelRow struct {
	id     int
	orphan bool // refused by the commit
}

// open begins a transaction where there is none.
func (m *model) open() {
	if m.levels == nil {
		m.levels = []level{{}}
	}
}

// over reports whether a statement must fail.
func (m *model) over() bool { return m.dead || m.cut || m.aborted >= 0 }

// forgiven reports whether an error is no surprise.
func (m *model) forgiven() bool { return m.over() || m.mayBeDead || m.severed }

func (m *model) statement(s step, id int, err error) error {
	m.open()
	if errors.Is(err, dbscope.ErrCommitUnknown) {
		return complaint("this is no commit")
	}
	nested := s.nests()
	if m.over() {
		if err == nil {
			return complaint("the statement succeeded in a transaction that can only be undone")
		}
		begins := nested || s.kind == "SQL, joining"
		if !begins || m.aborted < 0 && !m.dead { // else refused with nothing sent
			m.noticed(s.kind == "Conn")
		}
		m.mayBeDead = m.mayBeDead || nested // it went back to a savepoint that was refused
		return nil
	}
	if s.fault == toPrepare || s.fault == toExecute {
		if err == nil {
			return complaint("the statement succeeded")
		}
		m.mayBeDead = m.mayBeDead || m.severed
		if !nested {
			m.aborted = len(m.levels) - 1
		}
		m.sent()
		return nil
	}
	if err != nil {
		if !m.forgiven() {
			return complaint("the statement failed")
		}
		if !m.mayBeDead {
			m.severed = false // that was it
		}
		m.dead = true
		return nil
	}
	m.mayBeDead, m.severed = false, false
	m.sent()
	last := &m.levels[len(m.levels)-1]
	last.rows = append(last.rows, modelRow{id, s.fault == toCommit})
	return nil
}

// sent: the server has seen a statement, and what was pending before it.
func (m *model) sent() {
	for i := range m.levels {
		m.levels[i].sent = true
	}
}

// noticed follows a failure where one was due: a broken connection is found
// out, and replaced after the transaction. That does not hold where the scope
// did not see the failure, or perhaps saw another one.
func (m *model) noticed(behindTheScope bool) {
	if m.cut {
		m.severed = m.dead || m.mayBeDead || behindTheScope
		m.cut, m.dead = false, true
	}
}

func (m *model) begin(err error) error {
	m.open()
	if err == nil {
		m.levels = append(m.levels, level{})
		return nil
	}
	if !m.forgiven() {
		return complaint("a savepoint failed")
	}
	if !m.over() {
		m.dead = true
	}
	return nil
}

// leave takes the levels from index on, and returns their rows.
func (m *model) leave(index int) []modelRow {
	var rows []modelRow
	for _, l := range m.levels[index:] {
		rows = append(rows, l.rows...)
	}
	m.levels = m.levels[:index]
	return rows
}

func (m *model) commitNested(index int, err error) error {
	inside := index < len(m.levels)-1
	rows := m.leave(index)
	switch {
	case err != nil && !m.forgiven() && !inside:
		return complaint("RELEASE SAVEPOINT failed")
	case err == nil && (inside || m.over() && len(rows) > 0):
		return complaint("the nested commit succeeded, but its work is lost")
	}
	switch {
	case m.aborted >= 0 && !inside:
		m.aborted = min(m.aborted, index-1)
		m.mayBeDead = m.mayBeDead || err != nil
	case err != nil:
		m.dead = true
	}
	if err == nil {
		m.levels[index-1].rows = append(m.levels[index-1].rows, rows...)
	}
	return nil
}

func (m *model) rollBackNested(index int, err error) error {
	if err != nil && !m.forgiven() {
		return complaint("ROLLBACK TO SAVEPOINT failed")
	}
	if err != nil && m.aborted < 0 {
		m.dead = true
	}
	m.leave(index)
	switch {
	case m.aborted >= index && err == nil:
		m.aborted = -1
	case m.aborted >= index && !m.mayBeDead && !m.dead && !m.cut:
		return complaint("ROLLBACK TO SAVEPOINT failed")
	case m.aborted >= 0: // the savepoint was refused
		m.mayBeDead = true
	}
	return nil
}

// execCommit is a statement, and the commit that goes with it.
func (m *model) execCommit(s step, id int, err error) error {
	if len(m.levels) > 1 {
		return wantError(err, dbscope.ErrOpenTransaction)
	}
	m.open()
	if !m.dead && m.aborted < 0 && !m.marked { // it may go out on a connection that is cut
		m.levels[0].rows = append(m.levels[0].rows, modelRow{id, s.fault != sound})
	}
	// Nothing has noticed before that the connection is broken.
	m.cut = m.cut || m.severed && err != nil
	return m.commit(err, false)
}

// commit is of the whole unit, or of this database early.
func (m *model) commit(err error, unit bool) error {
	if !unit && len(m.levels) > 1 {
		return wantError(err, dbscope.ErrOpenTransaction)
	}
	defer m.end(err)
	unknown := errors.Is(err, dbscope.ErrCommitUnknown)
	lost := m.dead || m.aborted >= 0 || len(m.levels) > 1
	var ids []int
	if m.levels != nil {
		for _, row := range m.levels[0].rows {
			ids = append(ids, row.id)
			lost = lost || row.orphan
		}
	}
	switch {
	case unknown && (!m.cut || m.marked):
		return complaint("the commit cannot be unknown")
	case m.marked:
		return wantError(err, dbscope.ErrRollbackOnly)
	case unknown:
		if !lost {
			m.unknown = append(m.unknown, ids)
		}
		return nil
	case lost, m.cut && len(ids) > 0:
		m.rollbacks++
		return wantError(err, dbscope.ErrRolledBack)
	case err == nil:
		m.stored = append(m.stored, ids...)
		if len(ids) > 0 {
			m.commits++
		}
		return nil
	case m.forgiven():
		m.rollbacks++
		return wantError(err, dbscope.ErrRolledBack)
	}
	return complaint("the commit failed")
}

// rollBack is of the whole unit, or of this database early.
func (m *model) rollBack(err error, unit bool) error {
	if !unit && len(m.levels) > 1 {
		return wantError(err, dbscope.ErrOpenTransaction)
	}
	defer m.end(err)
	if err != nil && !m.cut && !m.severed {
		return complaint("the rollback failed")
	}
	if m.levels != nil {
		m.rollbacks++
	}
	return nil
}

// undone is the end of a unit whose function returned fnErr, or panicked.
func (m *model) undone(fnErr, err error) error {
	if !errors.Is(err, fnErr) {
		return complaint("want %v", fnErr)
	}
	if fnErr == err { //nolint:errorlint // whether it is more than that
		err = nil
	}
	return m.rollBack(err, true)
}

// end forgets the transaction.
func (m *model) end(err error) {
	if m.cut && err != nil {
		m.severed = m.mayBeDead || m.dead || m.aborted >= 0
	}
	m.levels, m.aborted, m.dead, m.mayBeDead, m.cut = nil, -1, false, false, false
}

// sever breaks the connection.
func (m *model) sever() {
	m.severed = true
	m.cut = m.cut || m.levels != nil && m.levels[0].sent
}

func (m *model) terminateSelf(err error) error {
	m.open()
	if err == nil {
		return complaint("nobody noticed")
	}
	if m.over() {
		m.noticed(false)
		return nil
	}
	m.severed = m.severed || m.mayBeDead
	m.dead = true
	return nil
}

// wantNothing is of an early end where nothing is open.
func wantNothing(err error) error {
	if err != nil {
		return complaint("there was nothing to end")
	}
	return nil
}

func wantError(err, target error) error {
	if !errors.Is(err, target) {
		return complaint("want %v", target)
	}
	return nil
}
