package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dbscope/dbscope/driver"
)

// shells has the *sql.DB whose connections are shells. The same is given to all who
// ask for it, until one of them closes it; then there is another one.
type shells struct {
	gate   driver.Gate
	driver func() (sqldriver.Driver, error) // of the pools
	join   bool

	current atomic.Pointer[handle]

	mu     sync.Mutex       // guards the rest
	closed bool             // with the DB: there is no other one from then on
	own    map[*handle]bool // those of SetUp that nobody has closed
}

// handle is one *sql.DB, and the connector of its connections. Each call on a
// connection finds the session in its own context. Binding one at Connect or
// ResetSession would be wrong where database/sql opens a connection for somebody
// who waits.
type handle struct {
	*shells
	db        *sql.DB
	settingUp atomic.Bool // a statement without a scope may run on the pool
}

// Ambient makes the [*sql.DB] of a DB's SQL method. Writers of other adapters
// use it; its DB's connections implement [Conn], its engines have a method
// Ping(ctx) error. It is safe for concurrent use.
type Ambient struct{ savepoints, joining *shells }

// NewAmbient returns the Ambient of a DB. What pools returns is the driver that
// [sql.DB.Driver] shows; it may be asked often.
func NewAmbient(gate driver.Gate, pools func() (sqldriver.Driver, error)) *Ambient {
	return &Ambient{newShells(gate, pools, false), newShells(gate, pools, true)}
}

// SQL returns the same *sql.DB for the same options; see [DB.SQL].
func (a *Ambient) SQL(opts ...SQLOption) *sql.DB { return a.shells(opts).get().db }

// SetUp is [DB.SetUp].
func (a *Ambient) SetUp(fn func(handle *sql.DB) error, opts ...SQLOption) error {
	return a.shells(opts).setUp(fn)
}

func (a *Ambient) shells(opts []SQLOption) *shells {
	var o sqlOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.join {
		return a.joining
	}
	return a.savepoints
}

// Close closes what SQL and SetUp gave.
func (a *Ambient) Close() error { return errors.Join(a.savepoints.close(), a.joining.close()) }

// idleShells keeps shells, which are small, for reuse.
const idleShells = 1000

func newShells(gate driver.Gate, pools func() (sqldriver.Driver, error), join bool) *shells {
	return &shells{gate: gate, driver: pools, join: join}
}

func (p *shells) newHandle() *handle {
	h := &handle{shells: p}
	h.db = sql.OpenDB(h)
	h.db.SetMaxIdleConns(idleShells)
	return h
}

func (p *shells) get() *handle {
	if h := p.current.Load(); h != nil {
		return h
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.current.Load()
	if h == nil {
		h = p.newHandle()
		p.current.Store(h)
	}
	return h
}

// setUp gives fn a handle of its own.
func (p *shells) setUp(fn func(handle *sql.DB) error) error {
	h := p.newHandle()
	if !p.keep(h) {
		_ = h.db.Close() // so that fn is told
	}
	h.settingUp.Store(true)
	succeeded := false
	defer func() {
		h.settingUp.Store(false)
		if !succeeded { // fn may have panicked
			_ = h.db.Close()
		}
	}()
	err := fn(h.db)
	succeeded = err == nil
	return err
}

// keep notes a handle that is to be closed with the DB, unless that is closed.
func (p *shells) keep(h *handle) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.own == nil {
		p.own = map[*handle]bool{}
	}
	p.own[h] = true
	return true
}

func (p *shells) close() error {
	current := p.get()
	p.mu.Lock()
	p.closed = true
	own := p.own
	p.own = nil
	p.mu.Unlock()
	err := current.db.Close()
	for h := range own {
		err = errors.Join(err, h.db.Close())
	}
	return err
}

// Close implements [io.Closer]: database/sql calls it when somebody has closed the
// *sql.DB.
func (h *handle) Close() error {
	p := h.shells
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.current.CompareAndSwap(h, nil)
		delete(p.own, h)
	}
	return nil
}

// Connect implements [sqldriver.Connector].
func (h *handle) Connect(context.Context) (sqldriver.Conn, error) { return &shell{pool: h}, nil }

// Driver implements [sqldriver.Connector]: libraries look at its type.
func (h *handle) Driver() sqldriver.Driver {
	d, err := h.driver()
	if err != nil {
		return noDriver{err}
	}
	return d
}

// session returns the session of ctx's scope, or that of a statement without one.
func (h *handle) session(ctx context.Context) (driver.Session, error) {
	if h.settingUp.Load() {
		return h.gate.SessionOrUnscoped(ctx)
	}
	return h.gate.Session(ctx)
}

// noDriver stands for the driver of a pool that cannot be opened.
type noDriver struct{ err error }

// Open implements [sqldriver.Driver].
func (d noDriver) Open(string) (sqldriver.Conn, error) { return nil, d.err }
