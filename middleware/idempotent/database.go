package idempotent

import (
	"context"
	"database/sql"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// Database is what the package needs of a database: a *sqlscope.DB and a *pgxscope.DB
// have it. O is the type of the options that SQL takes; the compiler finds it.
type Database[O any] interface {
	dbscope.Database
	SQL(opts ...O) *sql.DB
	BeforeCommit(ctx context.Context, hook func(context.Context) error) error
	Rollback(ctx context.Context) error
}

// target is a database, without the type of its options.
type target struct {
	db           dbscope.Database
	sql          *sql.DB // each statement runs in the unit of its context
	beforeCommit func(ctx context.Context, hook func(context.Context) error) error
	rollback     func(ctx context.Context) error
	asked        atomic.Pointer[known] // once it has been asked for
}

func targetOf[O any](db Database[O]) *target {
	return &target{db: db, sql: db.SQL(), beforeCommit: db.BeforeCommit, rollback: db.Rollback}
}

// known is what there is to know of a database.
type known struct {
	*dialect
	rides bool // a statement can go with COMMIT in one round trip
}

// ask returns what the database is, for which it is asked once, in the unit of the
// context.
func (t *target) ask(ctx context.Context) (known, error) {
	if k := t.asked.Load(); k != nil {
		return *k, nil
	}
	session, err := t.session(ctx)
	if err != nil {
		return known{}, err
	}
	conn, err := session.Enter(ctx)
	if err != nil {
		return known{}, err
	}
	reads := driver.AnyDialect
	if d, knows := conn.(driver.Dialecter); knows {
		reads = d.Dialect()
	}
	_, behind := conn.(driver.LastCommitter)
	_, execs := conn.(driver.Execer)
	if err := session.Exit(ctx, nil); err != nil {
		return known{}, err
	}
	d, err := t.dialectOf(ctx, reads)
	if err != nil {
		return known{}, err
	}
	k := known{d, behind && execs}
	t.asked.Store(&k)
	return k, nil
}

func (t *target) session(ctx context.Context) (driver.Session, error) {
	return dbscope.Gate(t.db).Session(ctx)
}

func (t *target) dialectOf(ctx context.Context, reads driver.Dialect) (*dialect, error) {
	switch {
	case reads&^(driver.PostgreSQL|driver.PostgreSQLEscapes) == 0:
		return &postgres, nil
	case reads == driver.SQLite:
		return &sqlite, nil
	}
	var version string
	if err := t.sql.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return nil, err
	}
	if strings.Contains(version, "MariaDB") {
		return &mariadb, nil
	}
	return &mysql, nil
}

// purged is how many rows [Purge] deletes in one unit.
const purged = 1000

// Purge deletes the keys that are older than age, with their responses, and returns how
// many there were. A request that comes again after that is served anew: so age has to be
// well above the time in which clients repeat their requests, a day for instance. It
// deletes a thousand at a time, each in a unit of its own, whatever ctx's unit is, and
// blocks until none is left, or an error.
func Purge[O any](ctx context.Context, db Database[O], age time.Duration) (n int64, err error) {
	t := targetOf(db)
	before := time.Now().Add(-age).Unix()
	for {
		var deleted int64
		err := dbscope.Run(dbscope.WithoutScope(ctx), func(ctx context.Context) error {
			d, err := t.ask(ctx)
			if err != nil {
				return err
			}
			deleted, err = t.exec(ctx, d.purge, before, purged)
			return err
		}, dbscope.Name("purge of idempotency keys"))
		if err != nil {
			return n, err
		}
		if n += deleted; deleted < purged {
			return n, nil
		}
	}
}

// exec runs a statement, and returns how many rows it has made, changed or deleted.
func (t *target) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := t.sql.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
