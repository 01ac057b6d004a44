package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"github.com/dbscope/dbscope"
)

// tenantKey is the key of the name in which a context's units work.
type tenantKey struct{}

func as(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func tenantOf(ctx context.Context) string {
	name, _ := ctx.Value(tenantKey{}).(string)
	return name
}

var (
	errNobody = errors.New("no tenant in the context")
	errStop   = errors.New("the program stops here")
)

// role is that of the application. The connections' own may do everything: what runs
// without its settings sees all rows, and stores them in nobody's name.
const role = "dbscope_tenant"

var settings = dbscope.Settings(func(ctx context.Context) ([]dbscope.Setting, error) {
	name := tenantOf(ctx)
	if name == "" {
		return nil, errNobody
	}
	return []dbscope.Setting{{Name: "role", Value: role}, {Name: "app.tenant", Value: name}}, nil
})

// subject is a DB, of whichever adapter.
type subject interface {
	// insert stores a row in the name of its owner, in one of many ways, and look
	// counts the rows that are seen, and those of others among them.
	insert(ctx context.Context, r *rand.Rand, owner string) error
	look(ctx context.Context, r *rand.Rand, owner string) (all, foreign int, err error)
	exec(ctx context.Context, query string) error
	unscoped(ctx context.Context, owner string) error // begins a transaction without a scope
	detached(ctx context.Context, fn func(context.Context) error) error
	sibling() subject

	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	Release(ctx context.Context) error
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	BeforeCommit(ctx context.Context, fn func(context.Context) error) error
	AfterCommit(ctx context.Context, fn func(context.Context) error) error
	AfterRollback(ctx context.Context, fn func(context.Context) error) error
}

// program does random things. Functions of a Group have one of their own each.
type program struct {
	db    subject
	r     *rand.Rand
	trace *trace
	depth int
}

// trace is what a program has done, and what was wrong.
type trace struct {
	mu    sync.Mutex
	lines []string
	wrong []string
	reads int
}

func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

func (t *trace) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	t.lines = append(t.lines, "WRONG: "+fmt.Sprintf(format, args...))
}

func (t *trace) String() string { return strings.Join(t.lines, "\n") }

var names = [...]string{"ada", "bob"}

// run is a whole program: a unit, or a few statements where there is none.
func (p *program) run(ctx context.Context) {
	ctx = as(ctx, names[p.r.IntN(2)])
	switch p.r.IntN(12) {
	case 0:
		p.expect(p.db.exec(ctx, "INSERT INTO items (owner) VALUES ('no scope')"), dbscope.ErrNoScope)
		_, _, err := p.db.look(ctx, p.r, tenantOf(ctx))
		p.expect(err, dbscope.ErrNoScope)
	case 1:
		p.trace.note("a transaction without a scope as %s", tenantOf(ctx))
		p.allow(p.db.unscoped(ctx, tenantOf(ctx)))
		p.expect(p.db.unscoped(as(ctx, ""), ""), errNobody)
	case 2:
		p.trace.note("a unit of nobody")
		err := dbscope.Run(as(ctx, ""), func(ctx context.Context) error {
			_ = p.db.insert(ctx, p.r, "nobody") // where it is a nested transaction that is undone alone
			p.expect(p.db.exec(ctx, "INSERT INTO items (owner) VALUES ('nobody')"), errNobody)
			return nil
		})
		p.expect(err, dbscope.ErrRolledBack)
	default:
		p.unit(ctx)
	}
}

// unit runs a unit of work in the context's name.
func (p *program) unit(ctx context.Context) {
	p.depth++
	defer func() { p.depth-- }()
	var opts []dbscope.Option
	reads := p.r.IntN(8) == 0
	if reads {
		opts = append(opts, dbscope.ReadOnly())
	}
	again := p.r.IntN(6) == 0
	if again {
		opts = append(opts, dbscope.Retry(dbscope.RetryPolicy{Attempts: 2, MinDelay: 1, MaxDelay: 1}))
	}
	p.trace.note("unit %d as %s, read-only %t {", p.depth, tenantOf(ctx), reads)
	defer p.trace.note("}")
	defer func() {
		if v := recover(); v != nil && v != errStop { //nolint:errorlint // the very one
			panic(v)
		}
	}()
	attempt := 0
	p.allow(dbscope.Run(ctx, func(ctx context.Context) error {
		attempt++
		p.steps(ctx, 1+p.r.IntN(6))
		if again && attempt == 1 {
			p.trace.note("again")
			return p.db.exec(ctx, "DO $$BEGIN RAISE SQLSTATE '40001'; END$$")
		}
		return p.end(true)
	}, opts...))
}

// end is a random end of a function.
func (p *program) end(panics bool) error {
	switch n := p.r.IntN(10); {
	case n == 0 && panics:
		p.trace.note("panic")
		panic(errStop)
	case n < 3:
		p.trace.note("return an error")
		return errStop
	}
	return nil
}

func (p *program) steps(ctx context.Context, n int) {
	for range n {
		steps[p.r.IntN(len(steps))](p, ctx)
	}
}

// steps are what a program does; the first more often than the rest.
var steps []func(p *program, ctx context.Context)

func init() {
	often := []func(*program, context.Context){(*program).insert, (*program).look}
	steps = append(steps, often...)
	steps = append(steps, often...)
	steps = append(steps, often...)
	steps = append(steps,
		(*program).early, (*program).early, (*program).atomic, (*program).atomic, (*program).detached, (*program).beside,
		(*program).group, (*program).hook, (*program).nested, (*program).joined, (*program).mistake, (*program).foreign,
		(*program).otherContext)
}

func (p *program) insert(ctx context.Context) {
	p.trace.note("insert as %s", tenantOf(ctx))
	p.allow(p.db.insert(ctx, p.r, tenantOf(ctx)))
}

func (p *program) look(ctx context.Context) { p.lookAs(ctx, tenantOf(ctx)) }

func (p *program) lookAs(ctx context.Context, owner string) {
	p.trace.note("look as %s", owner)
	_, foreign, err := p.db.look(ctx, p.r, owner)
	if foreign != 0 {
		p.trace.fail("%d foreign rows were read", foreign)
	}
	if err == nil {
		p.trace.mu.Lock()
		p.trace.reads++
		p.trace.mu.Unlock()
	}
	p.allow(err)
}

func (p *program) early(ctx context.Context) {
	switch p.r.IntN(3) {
	case 0:
		p.trace.note("commit early")
		p.allow(p.db.Commit(ctx))
	case 1:
		p.trace.note("roll back early")
		p.allow(p.db.Rollback(ctx))
	default:
		p.trace.note("release")
		p.allow(p.db.Release(ctx))
	}
}

func (p *program) atomic(ctx context.Context) {
	modes := [][]dbscope.AtomicOption{nil, nil, {dbscope.CommitOpen}, {dbscope.RollbackOpen}, {dbscope.ContinueOpen}, {dbscope.RefuseOpen}}
	mode := p.r.IntN(len(modes))
	p.trace.note("atomic, mode %d {", mode)
	p.allow(p.db.Atomic(ctx, func(ctx context.Context) error {
		p.steps(ctx, p.r.IntN(4))
		return p.end(false)
	}, modes[mode]...))
	p.trace.note("}")
}

// deep says that no further units are to begin inside of one another: each needs
// connections.
func (p *program) deep() bool { return p.depth >= 2 }

func (p *program) detached(ctx context.Context) {
	if p.deep() {
		return
	}
	p.depth++
	defer func() { p.depth-- }()
	ctx = as(ctx, names[p.r.IntN(2)])
	p.trace.note("detached as %s {", tenantOf(ctx))
	p.allow(p.db.detached(ctx, func(ctx context.Context) error {
		p.steps(ctx, 1+p.r.IntN(3))
		return p.end(false)
	}))
	p.trace.note("}")
}

// beside uses a second session of the same unit.
func (p *program) beside(ctx context.Context) {
	if p.depth > 1 {
		return
	}
	db := p.db
	p.db = db.sibling()
	p.trace.note("on a sibling")
	p.insert(ctx)
	p.look(ctx)
	p.db = db
}

func (p *program) group(ctx context.Context) {
	if p.deep() {
		return
	}
	ctx = as(ctx, names[p.r.IntN(2)]) // of both, and of their hooks
	g := dbscope.NewGroup(ctx)
	together := p.r.IntN(2) == 0
	if together {
		g.CommitTogether()
	}
	p.trace.note("group as %s, together %t {", tenantOf(ctx), together)
	for range 2 {
		inner := &program{db: p.db, r: rand.New(rand.NewPCG(p.r.Uint64(), 0)), trace: p.trace, depth: 2}
		g.Go(func(ctx context.Context) error {
			inner.steps(ctx, 1+inner.r.IntN(3))
			return inner.end(false)
		})
	}
	p.allow(g.Wait())
	p.trace.note("}")
}

func (p *program) hook(ctx context.Context) {
	kinds := []func(context.Context, func(context.Context) error) error{
		p.db.BeforeCommit, p.db.AfterCommit, p.db.AfterRollback, dbscope.BeforeCommit, dbscope.AfterCommit, dbscope.AfterRollback,
	}
	kind := p.r.IntN(len(kinds))
	p.trace.note("hook of kind %d", kind)
	p.allow(kinds[kind](ctx, func(ctx context.Context) error {
		p.trace.note("in a hook of kind %d", kind)
		p.insert(ctx)
		p.look(ctx)
		return nil
	}))
}

func (p *program) nested(ctx context.Context) {
	if !p.deep() {
		p.unit(as(ctx, names[p.r.IntN(2)]))
	}
}

func (p *program) joined(ctx context.Context) {
	p.trace.note("join {")
	p.allow(dbscope.Join(ctx, func(ctx context.Context) error {
		p.steps(ctx, 1+p.r.IntN(2))
		if p.r.IntN(6) == 0 {
			return errStop
		}
		return nil
	}))
	p.trace.note("}")
}

// mistake is a statement that fails, alone or as a block.
func (p *program) mistake(ctx context.Context) {
	p.trace.note("a mistake")
	fails := func(ctx context.Context) error { return p.db.exec(ctx, "SELECT 1/0") }
	if p.r.IntN(2) == 0 {
		p.allow(p.db.Atomic(ctx, fails))
	} else {
		p.allow(fails(ctx))
	}
}

// foreign tries to store a row in the other's name.
func (p *program) foreign(ctx context.Context) {
	other := names[0]
	if tenantOf(ctx) == other {
		other = names[1]
	}
	p.trace.note("forge a row of %s", other)
	err := p.db.Atomic(ctx, func(ctx context.Context) error {
		return p.db.exec(ctx, "INSERT INTO items (tenant, owner) VALUES ('"+other+"', 'a forger')")
	})
	if err == nil {
		p.trace.fail("a row was stored in the name of another")
	}
	p.allow(err)
}

// otherContext uses the unit's transaction with the other's name in the context: the
// transaction has its tenant, unless it begins with this.
func (p *program) otherContext(ctx context.Context) {
	p.trace.note("another name in the context")
	name := tenantOf(ctx)
	if err := p.db.exec(ctx, "SELECT 1"); err != nil {
		p.allow(err)
		return
	}
	_, foreign, err := p.db.look(as(ctx, names[p.r.IntN(2)]), p.r, name)
	if foreign != 0 {
		p.trace.fail("%d foreign rows were read in the middle of a transaction", foreign)
	}
	p.allow(err)
}

// expect is for what must be refused.
func (p *program) expect(err, target error) {
	if !errors.Is(err, target) {
		p.trace.fail("the error is %v, want %v", err, target)
	}
}

// allow is for what may fail: not with an error that nobody can explain.
func (p *program) allow(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	p.trace.note("-> %s", text)
	for _, strange := range []string{"a statement panicked", "session panicked", "unexpected answer", "conn busy", "without the scope's BEGIN"} {
		if strings.Contains(text, strange) {
			buf := make([]byte, 4096)
			p.trace.fail("an error of the library: %s\n%s", text, buf[:runtime.Stack(buf, false)])
		}
	}
	if errors.Is(err, errNobody) || errors.Is(err, dbscope.ErrCommitUnknown) || errors.Is(err, dbscope.ErrPoolDeadlock) {
		p.trace.fail("an error that cannot be: %s", text)
	}
}
