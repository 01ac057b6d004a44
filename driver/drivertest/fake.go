// Package drivertest tests adapters and the code above them. [Run] is the
// conformance suite that every adapter passes. [Fake] is a database in memory that
// records the order of calls, and fails on demand.
package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// Fake is a database in memory whose statements each store one row. It is
// safe for concurrent use.
type Fake struct {
	mu     sync.Mutex
	log    []string
	rows   []string
	faults map[string][]Fault
	said   map[string][]string
	open   int
	limit  chan struct{}
	unset  bool // it has no settings
}

// Fault is what goes wrong at one step. The parts are applied in this order.
type Fault struct {
	// Entered, where not nil, is closed when the step is reached.
	Entered chan<- struct{}
	// Until makes the step wait for it, or for the step's context.
	Until <-chan struct{}
	// Panic is what the step panics with.
	Panic any
	// Done lets the step take effect although it fails: its answer is lost.
	Done bool
	// Err is the step's error.
	Err error
	// Fate is what a failed statement did to its transaction.
	Fate driver.Fate
	// Outcome is what a failed commit answers.
	Outcome driver.Outcome
}

// NewFake returns an empty database with an unlimited pool.
func NewFake() *Fake { return &Fake{faults: map[string][]Fault{}, said: map[string][]string{}} }

// LimitConns limits the pool. Call it before the first use.
func (f *Fake) LimitConns(n int) { f.limit = make(chan struct{}, n) }

// NoSettings makes it a database that has no settings of transactions. Call it before
// the first use.
func (f *Fake) NoSettings() { f.unset = true }

// DB returns a new DB on the fake. All of them share its rows and its log.
func (f *Fake) DB(opts ...dbscope.DBOption) *dbscope.DB[*Tx] {
	return dbscope.New(adapter{f}, append([]dbscope.DBOption{dbscope.Name("fake")}, opts...)...)
}

// Adapter returns the fake's adapter, for a test that wraps it.
func (f *Fake) Adapter() driver.Adapter[*Tx] { return adapter{f} }

// Inject makes the next step of the given kind fail; several for the same
// step are used up in order. The steps are those of [Fake.Log], with what they
// act on or without: "exec a" is the statement that stores the row a, and "exec"
// the next one, whatever it stores. Further ones are "open", "query", "next" and
// "rows close".
func (f *Fake) Inject(step string, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[step] = append(f.faults[step], fault)
}

// Answer sets the row that a statement of dbscope's own returns from now on, a
// question of a [driver.Router] for instance.
func (f *Fake) Answer(statement string, row ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said[statement] = row
}

// Rows returns what is committed, in the order of commit.
func (f *Fake) Rows() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.rows)
}

// Log returns the calls so far: "open HOST", "acquire", "begin",
// "set NAME=VALUE ...", "exec ROW", "query WHAT", "savepoint NAME", "rollback to NAME", "release savepoint
// NAME", "commit", "rollback", "reset", "release", "discard", "close".
func (f *Fake) Log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// Open returns how many connections are out of the pool.
func (f *Fake) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// step records the call and applies its next fault. do is the step's effect.
func (f *Fake) step(ctx context.Context, kind, on string, do func()) (Fault, error) {
	f.mu.Lock()
	if on != "" {
		on = " " + on
	}
	line := kind + on
	f.log = append(f.log, line)
	var fault Fault
	for _, step := range [...]string{line, kind} {
		if queue := f.faults[step]; len(queue) > 0 {
			fault, f.faults[step] = queue[0], queue[1:]
			break
		}
	}
	f.mu.Unlock()
	if fault.Entered != nil {
		close(fault.Entered)
	}
	if fault.Until != nil {
		select {
		case <-fault.Until:
		case <-ctx.Done():
			return fault, errors.Join(ctx.Err(), fault.Err)
		}
	}
	if fault.Panic != nil {
		panic(fault.Panic)
	}
	if do != nil && (fault.Err == nil || fault.Done) {
		f.mu.Lock()
		do()
		f.mu.Unlock()
	}
	return fault, fault.Err
}

type adapter struct{ f *Fake }

func (a adapter) Open(ctx context.Context, host string) (driver.Engine, error) {
	if _, err := a.f.step(ctx, "open", host, nil); err != nil {
		return nil, err
	}
	return &engine{a.f}, nil
}

func (a adapter) Handle(s driver.Session) (*Tx, func(), error) { return &Tx{s: s}, nil, nil }

func (a adapter) Transient(err error) bool { return errors.Is(err, ErrTransient) }

func (a adapter) WriteRefused(err error) bool { return errors.Is(err, ErrReadOnly) }

// ErrReadOnly is a [Fault.Err] of a statement that would have written.
var ErrReadOnly = errors.New("the server is read-only")

// ErrTransient is a [Fault.Err] that may not come again: a serialization
// failure, say.
var ErrTransient = errors.New("a transient failure")

type engine struct{ f *Fake }

func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
	}
	if e.f.limit != nil {
		select {
		case e.f.limit <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if _, err := e.f.step(ctx, "acquire", "", func() { e.f.open++ }); err != nil {
		if e.f.limit != nil {
			<-e.f.limit
		}
		return nil, err
	}
	return &conn{f: e.f, fate: driver.Intact}, nil
}

// MaxConns implements [driver.Limited].
func (e *engine) MaxConns() int { return cap(e.f.limit) }

func (e *engine) Close() error {
	_, err := e.f.step(context.Background(), "close", "", nil)
	return err
}

// conn is one connection. fate is what the last failed statement did.
type conn struct {
	f     *Fake
	begun bool
	rows  []string
	marks []mark
	fate  driver.Fate
	set   map[string]string
	left  bool  // the owner of a transaction that is no session's has ended it
	ended error // of a statement that has ended the transaction: one that wraps driver.ErrEnded
}

type mark struct {
	name string
	rows int
}

func (c *conn) Begin(ctx context.Context, opts driver.TxOptions) error {
	on := ""
	if opts.ReadOnly {
		on = "read-only"
	}
	if opts.Isolation != sql.LevelDefault {
		on += opts.Isolation.String()
	}
	fault, err := c.f.step(ctx, "begin", on, func() { c.begun, c.fate = true, driver.Intact })
	c.after(fault, err)
	return err
}

func (c *conn) Commit(ctx context.Context) (driver.Outcome, error) {
	aborted := c.fate == driver.Aborted
	fault, err := c.f.step(ctx, "commit", "", func() {
		if !aborted {
			c.f.rows = append(c.f.rows, c.rows...)
		}
	})
	c.over()
	switch {
	case err != nil:
		return fault.Outcome, err
	case aborted:
		return driver.RolledBack, errors.New("the server rolled back")
	}
	return driver.Committed, nil
}

func (c *conn) Rollback(ctx context.Context) error {
	_, err := c.f.step(ctx, "rollback", "", nil)
	c.over()
	return err
}

func (c *conn) over() { c.begun, c.rows, c.marks, c.set = false, nil, nil, nil }

// CanSet implements [driver.Setter].
func (c *conn) CanSet() error {
	if c.f.unset {
		return errors.New("the fake has no settings")
	}
	return nil
}

// Set implements [driver.Setter].
func (c *conn) Set(ctx context.Context, settings []driver.Setting) error {
	var all []string
	for _, s := range settings {
		all = append(all, s.Name+"="+s.Value)
	}
	return c.statement(ctx, "set", strings.Join(all, " "), func() {
		if c.set == nil {
			c.set = map[string]string{}
		}
		for _, s := range settings {
			c.set[s.Name] = s.Value
		}
	})
}

func (c *conn) Savepoint(ctx context.Context, name string) error {
	return c.statement(ctx, "savepoint", name, func() { c.marks = append(c.marks, mark{name, len(c.rows)}) })
}

func (c *conn) RollbackTo(ctx context.Context, name string) error {
	fault, err := c.f.step(ctx, "rollback to", name, func() {
		i := c.find(name)
		c.rows, c.marks = c.rows[:c.marks[i].rows], c.marks[:i+1]
		c.fate = driver.Intact
	})
	c.after(fault, err)
	return err
}

func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	return c.statement(ctx, "release savepoint", name, func() { c.marks = c.marks[:c.find(name)] })
}

func (c *conn) find(name string) int {
	for i, m := range slices.Backward(c.marks) { // the last of that name, as databases do
		if m.name == name {
			return i
		}
	}
	panic("drivertest: no savepoint " + name)
}

// statement runs one that an aborted transaction refuses.
func (c *conn) statement(ctx context.Context, kind, on string, do func()) error {
	if c.left {
		c.fate = driver.Lost
		return sql.ErrTxDone
	}
	if c.begun && c.fate == driver.Aborted {
		_, _ = c.f.step(ctx, kind, on, nil)
		return errAborted
	}
	if ctx.Err() != nil { // it is not that of Enter, which has refused it otherwise
		c.fate = driver.Intact
		return context.Cause(ctx)
	}
	fault, err := c.f.step(ctx, kind, on, do)
	c.after(fault, err)
	return err
}

var errAborted = errors.New("current transaction is aborted")

// FirstRow knows the statements of dbscope's ledger, whose rows are among the others,
// and those of [Fake.Answer].
func (c *conn) FirstRow(ctx context.Context, statement string) (row []string, err error) {
	verb, _, _ := strings.Cut(statement, " ")
	var id, time string
	if parts := strings.Split(statement, "'"); len(parts) > 2 {
		id, time = "ledger "+parts[1], strings.Trim(parts[2], ", )")
	}
	refused := false
	err = c.statement(ctx, "row", verb, func() {
		row = c.f.said[statement]
		at := slices.IndexFunc(c.f.rows, func(row string) bool { return id != "" && strings.HasPrefix(row, id) })
		stored := at >= 0
		switch {
		case verb == "INSERT" && stored:
			refused = true
		case verb == "INSERT":
			c.rows = append(c.rows, id+" "+time)
		case verb == "SELECT" && stored:
			row = []string{strings.TrimPrefix(c.f.rows[at], id+" ")}
		case verb == "DELETE":
			c.f.rows = slices.DeleteFunc(c.f.rows, func(row string) bool { return strings.HasPrefix(row, "ledger ") })
		}
	})
	if refused {
		err = errors.New("the row exists")
	}
	return row, err
}

func (c *conn) after(fault Fault, err error) {
	if err != nil {
		c.fate = fault.Fate
	}
	if errors.Is(err, driver.ErrEnded) {
		c.ended = err
	}
}

func (c *conn) Check(_ context.Context, err error) driver.Fate {
	if errors.Is(err, errAborted) {
		return driver.Aborted
	}
	fate := c.fate
	if fate == driver.Undone {
		c.over()
	}
	return fate
}

// Reset implements [driver.Resetter].
func (c *conn) Reset(ctx context.Context) error {
	if c.begun {
		panic("drivertest: a connection was reset with its transaction open")
	}
	_, err := c.f.step(ctx, "reset", "", nil)
	return err
}

func (c *conn) Release(reuse bool) {
	kind := "release"
	if !reuse {
		kind = "discard"
	}
	_, _ = c.f.step(context.Background(), kind, "", func() { c.f.open-- })
	if reuse && c.begun {
		panic("drivertest: a connection was released with its transaction open")
	}
	if c.f.limit != nil {
		<-c.f.limit
	}
}

// Exec stores a row in the session of ctx's scope, or where there is none and
// the DB allows that, at once.
func Exec(ctx context.Context, db *dbscope.DB[*Tx], row string) error {
	s, err := dbscope.Gate(db).Session(ctx)
	if err != nil {
		return err
	}
	return (&Tx{s: s}).Exec(ctx, row)
}

// Begin nests a transaction in the session of ctx's scope, or begins one where
// there is none and the DB allows that.
func Begin(ctx context.Context, db *dbscope.DB[*Tx]) (*Tx, error) {
	s, err := dbscope.Gate(db).Session(ctx)
	if err != nil {
		return nil, err
	}
	return (&Tx{s: s}).Begin(ctx)
}

// Tx is the fake's native handle.
type Tx struct {
	s   driver.Session
	own *conn // of a transaction that no session has begun, else nil
}

// BeginOther begins a transaction that is no session's, as code does that knows
// nothing of dbscope. Its connection is not one of the pool.
func (f *Fake) BeginOther(ctx context.Context) (*Tx, error) {
	c := &conn{f: f, fate: driver.Intact}
	if err := c.Begin(ctx, driver.TxOptions{}); err != nil {
		return nil, err
	}
	return &Tx{own: c}, nil
}

// adopted implements [driver.AdoptedConn].
type adopted struct {
	*conn
	left atomic.Bool
}

// Adopt implements [driver.Adopter].
func (a adapter) Adopt(_ context.Context, tx *Tx) (driver.AdoptedConn, error) {
	switch {
	case tx == nil:
		return nil, errors.New("the transaction is nil")
	case tx.own == nil:
		return nil, errors.New("the transaction is a scope's own handle: pass the context of the scope instead")
	case tx.own.left:
		return nil, errors.New("the transaction is over already")
	}
	return &adopted{conn: tx.own}, nil
}

func (c *adopted) PreventCommit(ctx context.Context) error {
	if c.left.Load() {
		panic("drivertest: a transaction that is over was kept from being committed")
	}
	if c.conn.left {
		return sql.ErrTxDone
	}
	fault, err := c.f.step(ctx, "prevent commit", "", func() { c.fate = driver.Aborted })
	c.after(fault, err)
	return err
}

// Ended implements [driver.Ender].
func (c *adopted) Ended() error { return c.ended }

func (c *adopted) Left() { c.left.Store(true) }

func (c *adopted) Commit(context.Context) (driver.Outcome, error) {
	panic("drivertest: the commit of a transaction that is other code's")
}

func (c *adopted) Rollback(context.Context) error {
	panic("drivertest: the rollback of a transaction that is other code's")
}

func (c *adopted) Release(bool) {
	panic("drivertest: the release of a connection that is other code's")
}

func (c *adopted) RollbackTo(ctx context.Context, name string) error {
	if c.left.Load() {
		return sql.ErrTxDone
	}
	return c.conn.RollbackTo(ctx, name)
}

func connOf(dc driver.Conn) *conn {
	if a, is := dc.(*adopted); is {
		return a.conn
	}
	return dc.(*conn)
}

// Exec stores a row in the transaction.
func (t *Tx) Exec(ctx context.Context, row string) error {
	if t.own != nil {
		return t.own.statement(ctx, "exec", row, func() { t.own.rows = append(t.own.rows, row) })
	}
	dc, err := t.s.Enter(ctx)
	if err != nil {
		return err
	}
	c := connOf(dc)
	sends := t.observed(ctx, row)
	return t.s.Exit(ctx, c.statement(sends, "exec", row, func() {
		if c.begun {
			c.rows = append(c.rows, row)
		} else {
			c.f.rows = append(c.f.rows, row)
		}
	}))
}

// observed tells those who observe the statement, which was admitted, and returns the
// context to send it with.
func (t *Tx) observed(ctx context.Context, text string) context.Context {
	if o := t.s.Observer(); o != nil {
		return o.Start(ctx, driver.Statement{Text: text})
	}
	return ctx
}

// Setting returns the value of one of the transaction's settings, or "".
func (t *Tx) Setting(ctx context.Context, name string) (string, error) {
	dc, err := t.s.Enter(ctx)
	if err != nil {
		return "", err
	}
	value := connOf(dc).set[name]
	return value, t.s.Exit(ctx, nil)
}

// Query returns the rows that the transaction sees.
func (t *Tx) Query(ctx context.Context, what string) (*Rows, error) {
	dc, err := t.s.Enter(ctx)
	if err != nil {
		return nil, err
	}
	c := connOf(dc)
	r := &Rows{s: t.s, ctx: ctx, raw: &rawRows{c: c}}
	sends := t.observed(ctx, what)
	if err := c.statement(sends, "query", what, func() {
		r.raw.left = append(slices.Clone(c.f.rows), c.rows...)
	}); err != nil {
		return nil, t.s.Exit(ctx, err)
	}
	t.s.Hold(r.raw)
	return r, nil
}

// Begin nests a transaction: a savepoint.
func (t *Tx) Begin(ctx context.Context) (*Tx, error) {
	s, err := t.s.Begin(ctx, sql.TxOptions{})
	if err != nil {
		return nil, err
	}
	return &Tx{s: s}, nil
}

// Join nests a transaction that is part of this one.
func (t *Tx) Join(ctx context.Context) (*Tx, error) {
	s, err := t.s.Join(ctx, sql.TxOptions{})
	if err != nil {
		return nil, err
	}
	return &Tx{s: s}, nil
}

// Commit commits the transaction.
func (t *Tx) Commit(ctx context.Context) error {
	if t.own != nil {
		_, err := t.own.Commit(ctx)
		t.own.left = true
		return err
	}
	return t.s.Commit(ctx)
}

// Rollback undoes the transaction.
func (t *Tx) Rollback(ctx context.Context) error {
	if t.own != nil {
		t.own.left = true
		return t.own.Rollback(ctx)
	}
	return t.s.Rollback(ctx)
}

// Rows are a result that is being read.
type Rows struct {
	s      driver.Session
	ctx    context.Context
	raw    *rawRows
	closed bool
}

// Next returns the next row, and io.EOF after the last.
func (r *Rows) Next() (string, error) {
	if r.closed {
		return "", io.EOF
	}
	if err := r.s.Resume(r.raw); err != nil {
		return "", err
	}
	if fault, err := r.raw.c.f.step(r.ctx, "next", "", nil); err != nil {
		r.closed = true
		r.raw.c.after(fault, err)
		return "", r.s.Exit(r.ctx, errors.Join(err, r.raw.Close(r.ctx)))
	}
	row, err := "", io.EOF
	if len(r.raw.left) > 0 {
		row, err = r.raw.left[0], nil
		r.raw.left = r.raw.left[1:]
	}
	r.s.Hold(r.raw)
	return row, err
}

// Close gives the session back to the next statement.
func (r *Rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if err := r.s.Resume(r.raw); err != nil {
		return err
	}
	return r.s.Exit(r.ctx, r.raw.Close(r.ctx))
}

type rawRows struct {
	c      *conn
	left   []string
	closed bool
}

// Close implements [driver.Rows].
func (r *rawRows) Close(ctx context.Context) error {
	if r.closed {
		panic("drivertest: rows were closed twice")
	}
	r.closed = true
	fault, err := r.c.f.step(ctx, "rows close", "", nil)
	if err != nil {
		r.c.after(fault, err)
		return fmt.Errorf("closing rows: %w", err)
	}
	return nil
}
