package dbscope

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dbscope/dbscope/internal/session"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/hostname"
	"github.com/dbscope/dbscope/internal/link"
	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/settle"
	"github.com/dbscope/dbscope/internal/watch"
	"github.com/dbscope/dbscope/observe"
)

// DB is one database. It is long-lived, a package variable or a field, and
// safe for concurrent use. H is the native handle of its transactions, such
// as *sql.Tx or pgx.Tx. Adapters make it; its identity is its pointer.
type DB[H any] struct {
	core     *database
	adapter  driver.Adapter[H]
	siblings *sync.Map // name -> *DB[H], shared by the family
}

// New makes a DB of an adapter. It is for writers of adapters; others call an
// adapter's Open or New. It opens nothing.
func New[H any](adapter driver.Adapter[H], opts ...DBOption) *DB[H] {
	o := dbOptions{name: "db"}
	for _, opt := range opts {
		opt.applyToDB(&o)
	}
	if len(o.observers) > 0 {
		watch.Expect()
	}
	open := adapter.Open
	if err := configure(adapter, o.adapter); err != nil {
		open = func(context.Context, string) (driver.Engine, error) { return nil, err }
	}
	return &DB[H]{
		core: &database{link.Database{
			Name: o.name, AllowUnscoped: o.allowUnscoped, Resets: o.resets,
			Pools: pools.New(o.name, o.host, o.router, open, hostLeft(&o)), BeforeSession: o.beforeSession, BeforeCommit: o.beforeCommit, Settings: o.settings,
			Classify: adapter, Settler: o.settler, Observers: o.observers,
		}},
		adapter: adapter, siblings: &sync.Map{},
	}
}

// hostLeft tells observers of a host that the router has left, nil without any.
func hostLeft(o *dbOptions) func(string) {
	if len(o.observers) == 0 || o.router == nil {
		return nil
	}
	all := observe.Together(o.observers...)
	return func(left string) {
		e := observe.Event{Kind: observe.Switch, DB: o.name, From: left, Host: o.router.Host()}
		_, op := watch.Start(context.Background(), all, e)
		op.End(observe.None, nil)
	}
}

// configure passes on the options that are the adapter's own.
func configure(adapter any, options []any) error {
	c, _ := adapter.(driver.Configurable)
	for _, option := range options {
		if c == nil || !c.Configure(option) {
			return fmt.Errorf("the option %T is not one of this DB's adapter: leave it out", option)
		}
	}
	return nil
}

// Database is any DB, whatever its handle.
type Database interface{ database() *database }

func (db *DB[H]) database() *database { return db.core }

// Gate returns the adapter's way into a DB. It is for writers of adapters.
func Gate(db Database) driver.Gate { return db.database() }

// Session returns the native handle of the scope's session, the same one to
// every caller until the transaction ends. It does no I/O: the first
// statement opens the session. The scope ends the transaction; the handle's
// own commit and rollback work too, and the scope knows of them. Errors:
// [ErrNoScope], [ErrScopeEnded].
func (db *DB[H]) Session(ctx context.Context) (H, error) {
	ss, err := db.core.find(ctx)
	if err != nil {
		var none H
		return none, err
	}
	return session.HandleOf(db.adapter, ss)
}

// Commit commits the session's transaction now; the next statement begins
// anew, on the same connection; only where the unit's answer has begun to leave,
// as a stream's has, the connection goes back to the pool meanwhile. Without an
// open transaction it does nothing. It blocks as [Scope.Commit] does. The error
// of a failed commit is a [*CommitError]; [ErrSessionBusy] and
// [ErrOpenTransaction] leave all as it was.
func (db *DB[H]) Commit(ctx context.Context) error { return db.core.endOpen(ctx, session.Commit) }

// Rollback undoes the session's transaction now; the next statement begins
// anew, on the same connection. Otherwise it is as [DB.Commit].
func (db *DB[H]) Rollback(ctx context.Context) error { return db.core.endOpen(ctx, session.RollBack) }

// Release gives the session's connection back to the pool now and undoes open
// work; the next statement takes a connection again. Otherwise it is as
// [DB.Commit].
func (db *DB[H]) Release(ctx context.Context) error {
	ss, err := db.core.find(ctx)
	if err != nil {
		return err
	}
	err = db.core.endOpen(ctx, session.RollBack)
	slotOf(ss).dropSpare()
	return err
}

// Host returns the host of new sessions: that of the last [DB.SwitchHost], or
// of the option [Host]; with [Router], the one that writes. It is empty where
// the connection string names the host, and where none is known.
func (db *DB[H]) Host() string { return db.core.Pools.Host() }

// SwitchHost makes new sessions, also those of scopes that are under way, run on
// another host; siblings follow. It opens the host's pool and takes a
// connection from it; where that fails, the error says so and all stays as it
// was. So it does where the text is no host: a name or an address, with a port or
// without, several of them with commas between, or the path of a socket. Sessions
// that are open finish where they began, those that wait for a
// connection take one of the new host, and the old pool is closed in the
// background. It blocks while it connects, until
// ctx is done, and while another switch does; of several at once the last to
// come wins. It may be called by [BeforeSession].
func (db *DB[H]) SwitchHost(ctx context.Context, host string) error {
	e := observe.Event{Kind: observe.Switch, DB: db.core.Name, From: db.Host()}
	if hostname.Check(host) == nil { // else it may be a connection string, with a password
		e.Host = host
	}
	ctx, op := watch.Start(ctx, observe.Together(db.core.Observers...), e)
	err := db.core.Pools.SwitchTo(ctx, host)
	op.End(observe.None, err)
	if err != nil {
		return fmt.Errorf("dbscope: %s: SwitchHost: %w", db.core.Name, err)
	}
	return nil
}

// Close closes the pools, for siblings too. Statements after it are an error.
// It blocks until connections in use are back, for 30 seconds at most; not for
// those that a test of package scopetest shares, and gives back after its deferred
// calls.
func (db *DB[H]) Close() error { return db.core.Pools.Close() }

// PurgeLedger deletes the rows of [SettleByLedger] that are older than age. It
// has nothing to do with ctx's scope. Call it now and then, with an age well above
// [CommitTimeout]; a row that is gone counts as a commit that did not happen.
func (db *DB[H]) PurgeLedger(ctx context.Context, age time.Duration) error {
	core := db.core.Database
	core.Settings = nil // of units; the ledger is dbscope's own
	ss := newUnscoped(ctx, &core)
	conn, err := ss.Enter(ctx)
	if err != nil {
		return err
	}
	_, err = conn.FirstRow(ctx, settle.PurgeBefore(time.Now().Add(-age)))
	return ss.Exit(ctx, err)
}

// Detached calls fn in a transaction of its own, outside the context's scope:
// committed when fn returns nil, whatever becomes of the scope, and undone
// otherwise. fn's context carries the new unit, so that the functions it calls
// join it. It blocks and fails as [Run] does.
func (db *DB[H]) Detached(ctx context.Context, fn func(context.Context, H) error) error {
	return Run(ctx, func(ctx context.Context) error {
		h, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return fn(ctx, h)
	})
}

// Sibling returns a DB on the same pool that has sessions of its own: a second
// transaction of the same database in the same scope. The same name gives the
// same DB; the empty name is the DB itself.
func (db *DB[H]) Sibling(name string) *DB[H] {
	if name == "" {
		return db
	}
	if s, ok := db.siblings.Load(name); ok {
		return s.(*DB[H])
	}
	core := *db.core
	core.Name = core.Pools.Name() + "/" + name
	s, _ := db.siblings.LoadOrStore(name, &DB[H]{core: &core, adapter: db.adapter, siblings: db.siblings})
	return s.(*DB[H])
}
