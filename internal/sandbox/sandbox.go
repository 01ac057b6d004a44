// Package sandbox keeps what units of work commit from being stored: it stands in
// for the pools of a test's databases.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/observe"
)

// Sandbox has, for each of its databases, one connection with one transaction:
// the transactions of units are savepoints of it, and in the end it is rolled
// back. It implements [unit.Sandbox].
type Sandbox struct {
	mu    sync.Mutex // guards the lanes too
	lanes map[*pools.Pools]*lane
	ended bool
}

// New makes a sandbox of the databases. It opens nothing, and must end with End.
func New(dbs ...dbscope.Database) *Sandbox {
	b := &Sandbox{lanes: map[*pools.Pools]*lane{}}
	for _, db := range dbs {
		p := dbscope.Gate(db).(interface{ AllPools() *pools.Pools }).AllPools()
		b.lanes[p] = &lane{box: b, pools: p, changed: make(chan struct{})}
	}
	return b
}

// Context returns a context all of whose units run in the sandbox, and on no
// database outside it, and have the observers. It carries no scope.
func (b *Sandbox) Context(ctx context.Context, observers ...observe.Observer) context.Context {
	return unit.In(dbscope.WithoutScope(ctx), b, observers...)
}

// End rolls everything back and gives the connections back. It returns an
// error for each thing that is not as it should be: a unit that is still open,
// with the stack of its last statement, or a transaction that somebody ended.
// It blocks as [dbscope.Scope.End] does. Units of the sandbox that go on are
// refused.
func (b *Sandbox) End(ctx context.Context) error {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	var all []error
	for _, l := range b.lanes {
		all = append(all, l.end(ctx))
	}
	return errs.Joined(all...)
}

func (b *Sandbox) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// Acquire implements [unit.Sandbox].
func (b *Sandbox) Acquire(ctx context.Context, a unit.Acquisition) (unit.Conn, error) {
	l := b.lanes[a.Pools]
	if l == nil {
		return nil, errors.New("the test has not named this database: pass it to scopetest.Rollback or scopetest.Serve")
	}
	if err := l.open(ctx, a.Engine); err != nil {
		return nil, err
	}
	return &frame{Conn: l.conn, lane: l, unit: a.Unit, owner: a.Owner}, nil
}

// Wake implements [unit.Sandbox].
func (b *Sandbox) Wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
}

// wake makes all who wait look again: a cycle may go through several lanes.
// The caller holds mu.
func (b *Sandbox) wake() {
	for _, l := range b.lanes {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// lane is the one connection of a database in a sandbox. Scopes side by side
// take turns on it, nested ones nest.
type lane struct {
	box   *Sandbox
	pools *pools.Pools

	opening sync.Mutex  // held while conn is made, and at the end
	conn    driver.Conn // the rest does not change once it is there
	isPG    bool
	defers  bool // the database has deferrable constraints

	inForce *frame // whose settings are, nil where that has to be made sure; of who uses the connection

	// The sandbox's mu guards the rest.
	clock   uint64   // counts what is sent
	stack   []*frame // transactions that are open, innermost last
	marks   []uint64 // the savepoints of those that have ended, oldest first
	waiting []*frame
	user    *frame        // whose statement is running, or its rows open
	changed chan struct{} // closed and replaced at each change
	debt    string        // the savepoint to go back to before anything else
	lost    error         // why the transaction is no more
	stored  bool          // a statement has committed it
	before  []original    // what units have set, in the order in which they did first
	missed  bool          // somebody wanted it after that
	closed  bool
}

// endTimeout bounds what begins and ends a transaction here.
const endTimeout = 10 * time.Second

const (
	setReadOnly = "SET LOCAL transaction_read_only = on"

	// askDatabase tells PostgreSQL, and whether it has deferrable constraints.
	askDatabase = `SELECT version(), EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE condeferrable)::int`

	// deferred runs what is deferred to COMMIT, and defers again what is by its
	// definition. In one statement, which takes one round trip in any protocol.
	deferred = `DO $dbscope$
DECLARE others text;
BEGIN
	SET CONSTRAINTS ALL IMMEDIATE;
	SET CONSTRAINTS ALL DEFERRED;
	SELECT string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ') INTO others
		FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
		WHERE c.condeferrable AND NOT c.condeferred;
	IF others IS NOT NULL THEN
		EXECUTE 'SET CONSTRAINTS ' || others || ' IMMEDIATE';
	END IF;
END $dbscope$`
)

// open takes the connection and begins the outer transaction, once.
func (l *lane) open(ctx context.Context, engine driver.Engine) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	switch {
	case l.box.over():
		return errors.New("the test is over")
	case l.conn != nil:
		return nil
	}
	conn, err := engine.Acquire(ctx)
	if err != nil {
		return err
	}
	if err := l.begin(ctx, conn); err != nil {
		conn.Release(false)
		return err
	}
	l.conn = conn
	l.pools.Lend(1)
	return nil
}

// begin begins the outer transaction. What a cancelled ctx cancels on the
// connection the whole test would miss.
func (l *lane) begin(ctx context.Context, conn driver.Conn) error {
	if err := conn.Begin(ctx, driver.TxOptions{}); err != nil {
		return err
	}
	beginning := ending.New(ctx, endTimeout)
	defer beginning.Cancel()
	if err := conn.Savepoint(beginning, markOf(anchor)); err != nil {
		return err
	}
	about, err := conn.FirstRow(beginning, askDatabase)
	if err != nil && conn.Check(beginning, err) != driver.Intact { // SQLite has none of this, and says so without harm
		return err
	}
	l.isPG = len(about) > 0 && strings.HasPrefix(about[0], "PostgreSQL ")
	l.defers = l.isPG && about[1] != "0"
	return nil
}

// end rolls the outer transaction back.
func (l *lane) end(ctx context.Context) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if l.conn == nil {
		return nil
	}
	l.box.mu.Lock()
	open := slices.Clone(l.stack)
	var failures []error
	for _, f := range open {
		what := "a unit of work is still open, its last statement being"
		if f.unit == nil {
			what = "rows are still open, or a statement runs,"
		}
		failures = append(failures, fmt.Errorf("dbscope: %s: at the end of the test %s here:\n%s", l.pools.Name(), what, f.at))
	}
	l.box.mu.Unlock()
	for _, f := range slices.Backward(open) {
		failures = append(failures, f.owner.Abandon(ctx))
	}
	bounded := ending.New(ctx, endTimeout)
	defer bounded.Cancel()
	if err := l.close(bounded); err != nil {
		// Whoever uses the connection is waited for elsewhere.
		go func() {
			ctx := context.WithoutCancel(ctx)
			_ = l.close(ctx)
			_ = l.rollBack(ctx)
		}()
		failures = append(failures, fmt.Errorf("dbscope: %s: at the end of the test a statement still runs: %w", l.pools.Name(), err))
	} else {
		failures = append(failures, l.rollBack(bounded))
	}
	return errs.Joined(failures...)
}

// close lets nobody use the connection any more, and waits until nobody does.
func (l *lane) close(ctx context.Context) error {
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	l.closed = true
	l.box.wake()
	for l.user != nil {
		if err := l.pause(ctx, &frame{}); err != nil {
			return err
		}
	}
	return nil
}

// rollBack gives the connection back as it came. Nobody else uses it.
func (l *lane) rollBack(ctx context.Context) error {
	defer l.pools.Lend(-1)
	var err error
	if !l.stored {
		err = l.conn.RollbackTo(ctx, markOf(anchor))
	}
	if l.stored || err != nil && l.conn.Check(ctx, err) != driver.Lost { // with the connection it would be undone
		l.conn.Release(false)
		return fmt.Errorf("dbscope: %s: the test's transaction was ended behind its back, so that its work may be stored: %w",
			l.pools.Name(), errs.Joined(l.lost, err))
	}
	if err == nil {
		err = l.conn.Rollback(ctx)
	}
	l.conn.Release(err == nil && l.lost == nil)
	switch {
	case l.missed:
		return fmt.Errorf("dbscope: %s: statements were refused, since the test's transaction was lost: %w", l.pools.Name(), l.lost)
	case l.lost != nil:
		return nil
	}
	return err
}
