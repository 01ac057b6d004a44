package dbscope

import (
	"context"
	"fmt"
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// DB is one database. It is long-lived, a package variable or a field, and
// safe for concurrent use. H is the native handle of its transactions, such
// as *sql.Tx or pgx.Tx. Adapters make it; its identity is its pointer.
type DB[H any] struct {
	core     *database
	adapter  driver.Adapter[H]
	siblings *sync.Map // name -> *DB[H], shared by the family
}

// database is the part of a DB that does not depend on its handle.
type database struct {
	name          string
	allowUnscoped bool
	hosts         *hosts
	classify      classifier
	settler       settler // or nil
}

// classifier is an adapter's knowledge of errors.
type classifier interface {
	Transient(err error) bool
	WriteRefused(err error) bool
}

// transient reports whether what failed may succeed another time.
func (d *database) transient(err error) bool { return err != nil && d.classify.Transient(err) }

// New makes a DB of an adapter. It is for writers of adapters; others call an
// adapter's Open or New. It opens nothing.
func New[H any](adapter driver.Adapter[H], opts ...DBOption) *DB[H] {
	o := dbOptions{name: "db"}
	for _, opt := range opts {
		opt(&o)
	}
	open := adapter.Open
	if err := configure(adapter, o.adapter); err != nil {
		open = func(context.Context, string) (driver.Engine, error) { return nil, err }
	}
	return &DB[H]{
		core: &database{
			name: o.name, allowUnscoped: o.allowUnscoped,
			hosts: newHosts(o.name, &o, open), classify: adapter, settler: o.settler,
		},
		adapter: adapter, siblings: &sync.Map{},
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
	if h := ss.handle.Load(); h != nil {
		return (*h).(H), nil
	}
	return newHandle(db.adapter, ss)
}

// Commit commits the session's transaction now; the next statement begins
// anew, on the same connection; only where the unit's answer has begun to leave,
// as a stream's has, the connection goes back to the pool meanwhile. Without an
// open transaction it does nothing. It blocks as [Scope.Commit] does. The error
// of a failed commit is a [*CommitError]; [ErrSessionBusy] and
// [ErrOpenTransaction] leave all as it was.
func (db *DB[H]) Commit(ctx context.Context) error { return db.end(ctx, true, true) }

// Rollback undoes the session's transaction now; the next statement begins
// anew, on the same connection. Otherwise it is as [DB.Commit].
func (db *DB[H]) Rollback(ctx context.Context) error { return db.end(ctx, false, true) }

// Release gives the session's connection back to the pool now and undoes open
// work; the next statement takes a connection again. Otherwise it is as
// [DB.Commit].
func (db *DB[H]) Release(ctx context.Context) error { return db.end(ctx, false, false) }

func (db *DB[H]) end(ctx context.Context, commit, keep bool) error {
	ss, err := db.core.find(ctx)
	if err != nil {
		return err
	}
	err = db.core.endOpen(ctx, commit)
	if !keep {
		ss.slot.dropSpare()
	}
	return err
}

// endOpen ends what is open in the scope's session; with nothing open it does
// nothing, also where somebody else has just ended that, unless the whole scope is over.
func (d *database) endOpen(ctx context.Context, commit bool) error {
	for {
		ss, err := d.find(ctx)
		if err != nil {
			return err
		}
		if !ss.isOpen() { // asked first: a scope is over before its sessions are
			if ss.slot.scope.ended.Load() {
				return fmt.Errorf("dbscope: %s: %w", d.name, ss.slot.scope.endedError())
			}
			return nil
		}
		err = ss.endEarly(ctx, commit, nil)
		if _, late := err.(*overError); !late { //nolint:errorlint // of this session, not of one in a hook
			return err
		}
	}
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
	core.name = core.hosts.name + "/" + name
	s, _ := db.siblings.LoadOrStore(name, &DB[H]{core: &core, adapter: db.adapter, siblings: db.siblings})
	return s.(*DB[H])
}

// find returns the session of the context's scope.
func (d *database) find(ctx context.Context) (*session, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, fmt.Errorf("dbscope: %s: %w", d.name, ErrNoScope)
	}
	return s.session(d)
}

// Session implements [driver.Gate].
func (d *database) Session(ctx context.Context) (driver.Session, error) {
	if scopeOf(ctx) == nil {
		if b := sandboxOf(ctx); b != nil || d.allowUnscoped {
			ss := newUnscoped(d)
			ss.sandbox = b
			return ss, nil
		}
	}
	ss, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	return ss, nil
}

// Engine implements [driver.Gate].
func (d *database) Engine(ctx context.Context) (driver.Engine, error) {
	e, err := d.hosts.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("dbscope: %s: %w", d.name, err)
	}
	return e, nil
}
