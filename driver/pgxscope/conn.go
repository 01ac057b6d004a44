package pgxscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// engine implements [driver.Engine] over the user's pool. Connections are
// taken through stdlib, so that a session's is also a database/sql driver's.
type engine struct {
	pool      *pgxpool.Pool
	connector sqldriver.Connector
}

func newEngine(pool *pgxpool.Pool) *engine {
	return &engine{pool: pool, connector: stdlib.GetPoolConnector(pool)}
}

func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	raw, err := e.connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := raw.(*stdlib.Conn)
	return &conn{Conn: c.Conn(), raw: c}, nil
}

// Ping is for [sqlscope.Ambient].
func (e *engine) Ping(ctx context.Context) error { return e.pool.Ping(ctx) }

func (e *engine) Close() error {
	e.pool.Close()
	return nil
}

// conn implements [driver.Conn]. The core never uses it from two goroutines at
// once.
type conn struct {
	*pgx.Conn
	raw     *stdlib.Conn
	sql     *sqlscope.RawConn // once asked for
	pending []string          // BEGIN and savepoints that ride with the next statement
	begun   bool              // BEGIN was sent
	first   string            // of a savepoint, while it runs
}

// Begin implements [driver.Conn]: nothing is sent yet.
func (c *conn) Begin(_ context.Context, opts sql.TxOptions) error {
	begin, err := beginSQL(opts)
	c.pending, c.begun = append(c.pending[:0], begin), false
	return err
}

func beginSQL(opts sql.TxOptions) (string, error) {
	begin := "begin"
	switch opts.Isolation {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable:
		begin += " isolation level " + strings.ToLower(opts.Isolation.String())
	case sql.LevelSnapshot:
		begin += " isolation level repeatable read"
	default:
		return "", fmt.Errorf("PostgreSQL has no isolation level %s", opts.Isolation)
	}
	if opts.ReadOnly {
		begin += " read only"
	}
	return begin, nil
}

// ride takes what is pending, which the caller sends with its statement.
func (c *conn) ride() []string {
	p := c.pending
	c.pending = nil
	c.begun = c.begun || len(p) > 0
	return p
}

// rides reports whether what is pending can travel with the statement. BEGIN
// can. A savepoint must not travel with one that could fail before any of it
// is executed, while it is parsed or prepared: that would abort the
// transaction around the savepoint. One that succeeded on this connection as
// the first of a savepoint will not.
func (c *conn) rides(text string) bool {
	if n := len(c.pending); n == 0 || !strings.HasPrefix(c.pending[n-1], "savepoint ") {
		return true
	}
	c.first = text
	_, succeeded := c.firsts()[text]
	return succeeded
}

// maxFirsts bounds what a connection remembers.
const maxFirsts = 1000

// firsts are the statements that have succeeded as the first of a savepoint.
func (c *conn) firsts() map[string]struct{} {
	const key = "github.com/dbscope/dbscope/driver/pgxscope"
	data := c.PgConn().CustomData()
	known, ok := data[key].(map[string]struct{})
	if !ok {
		known = map[string]struct{}{}
		data[key] = known
	}
	return known
}

// learn notes how a statement ended.
func (c *conn) learn(err error) {
	if c.first == "" {
		return
	}
	if known := c.firsts(); err == nil && len(known) < maxFirsts {
		known[c.first] = struct{}{}
	}
	c.first = ""
}

// flush sends what is pending in a round trip of its own.
func (c *conn) flush(ctx context.Context) error {
	if p := c.ride(); len(p) > 0 {
		_, err := c.Exec(ctx, strings.Join(p, "; "))
		return err
	}
	return nil
}

// SQL implements [sqlscope.Conn].
func (c *conn) SQL(ctx context.Context) (*sqlscope.RawConn, error) {
	if c.sql == nil {
		c.sql = sqlscope.NewRawConn(c.raw)
	}
	return c.sql, c.flush(ctx)
}

// Commit implements [driver.Conn]. Only what the server answers counts: pgx
// may call a COMMIT that went out "not sent".
func (c *conn) Commit(ctx context.Context) (driver.Outcome, error) {
	if !c.begun {
		c.pending = nil
		return driver.Committed, nil // of nothing
	}
	c.pending = nil
	switch {
	case c.IsClosed():
		return driver.RolledBack, errors.New("the connection was lost before COMMIT was sent")
	case ctx.Err() != nil:
		return driver.RolledBack, fmt.Errorf("COMMIT was not sent: %w", context.Cause(ctx))
	case c.PgConn().TxStatus() == 'I':
		return driver.Unknown, errors.New("a statement ended the transaction behind the scope's back")
	}
	tag, err := c.Exec(ctx, "commit")
	var refused *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return driver.Committed, nil
	case err == nil:
		return driver.RolledBack, pgx.ErrTxCommitRollback
	case errors.As(err, &refused) && c.PgConn().TxStatus() == 'I' && !c.IsClosed() && refused.Code != "40003":
		return driver.RolledBack, err
	default:
		return driver.Unknown, err
	}
}

// Rollback implements [driver.Conn]. For a BEGIN that was not sent nothing is.
func (c *conn) Rollback(ctx context.Context) error {
	c.pending = nil
	if !c.begun {
		return nil
	}
	_, err := c.Exec(ctx, "rollback")
	return err
}

// Savepoint implements [driver.Conn]: it rides with the next statement.
func (c *conn) Savepoint(_ context.Context, name string) error {
	c.pending = append(c.pending, "savepoint "+name)
	return nil
}

// RollbackTo implements [driver.Conn].
func (c *conn) RollbackTo(ctx context.Context, name string) error {
	if c.unsent(name) {
		return nil
	}
	c.pending = nil // savepoints inside the one to go back to
	_, err := c.Exec(ctx, "rollback to savepoint "+name)
	return err
}

// ReleaseSavepoint implements [driver.Conn].
func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	if c.unsent(name) {
		return nil
	}
	c.pending = nil
	_, err := c.Exec(ctx, "release savepoint "+name)
	return err
}

// unsent reports whether the savepoint is still pending, and takes it and
// those inside it back.
func (c *conn) unsent(name string) bool {
	for i, p := range c.pending {
		if p == "savepoint "+name {
			c.pending = c.pending[:i]
			return true
		}
	}
	return false
}

// Check implements [driver.Conn]: the server has said what it did. A first
// statement that failed while it was prepared leaves no transaction at all,
// and so the session counts as undone.
func (c *conn) Check(_ context.Context, err error) driver.Fate {
	if c.IsClosed() || errors.As(err, new(sqlscope.LostError)) {
		return driver.Lost
	}
	switch c.PgConn().TxStatus() {
	case 'E':
		return driver.Aborted
	case 'T':
		return driver.Intact
	default:
		if c.begun {
			return driver.Undone
		}
		return driver.Intact
	}
}

// Release implements [driver.Conn].
func (c *conn) Release(reuse bool) {
	if c.sql != nil {
		reuse = c.sql.CloseStatements() == nil && reuse
	}
	if !reuse {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(ctx) // the pool lets go of closed connections
	}
	_ = c.raw.Close() // gives it back to the pool
}
