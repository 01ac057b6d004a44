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
	"github.com/jackc/pgx/v5/pgproto3"
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
	separate  bool // see [SeparateBegin]
}

func newEngine(pool *pgxpool.Pool, separate bool) *engine {
	return &engine{pool: pool, connector: stdlib.GetPoolConnector(pool), separate: separate}
}

// Acquire replaces connections that the server has ended while they were idle,
// as after a restart: the pool may be full of them.
func (e *engine) Acquire(ctx context.Context) (driver.Conn, error) {
	for ended := int32(0); ; ended++ {
		c, err := e.take(ctx)
		if err != nil {
			return nil, err
		}
		why := c.Look()
		if why == nil {
			return c, nil
		}
		c.Release(false)
		if ended > e.pool.Config().MaxConns { // more than were idle
			return nil, fmt.Errorf("the server ends each connection: %w", why)
		}
	}
}

func (e *engine) take(ctx context.Context) (*conn, error) {
	raw, err := e.connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := raw.(*stdlib.Conn)
	w, _ := c.Conn().PgConn().CustomData()[wireKey].(*wire)
	if w == nil {
		w = &wire{}
	}
	w.behind = behind{}
	return &conn{Conn: c.Conn(), raw: c, wire: w, separate: e.separate || w.in == nil}, nil
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
	raw      *stdlib.Conn
	sql      *sqlscope.RawConn // once asked for
	wire     *wire
	separate bool   // BEGIN and SAVEPOINT take a round trip of their own
	begin    string // the transaction's first statement, empty without one
}

// Begin implements [driver.Conn]: nothing is sent yet.
func (c *conn) Begin(_ context.Context, opts driver.TxOptions) (err error) {
	c.wire.behind = behind{}
	c.begin, err = beginSQL(opts)
	if err == nil {
		c.wire.add(c.begin)
	}
	return err
}

// begun reports whether there is a transaction on the server, or was one.
func (c *conn) begun() bool { return c.begin != "" && !c.wire.waits(c.begin) }

func beginSQL(opts driver.TxOptions) (string, error) {
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
	if opts.Deferrable {
		begin += " deferrable"
	}
	return begin, nil
}

// ready makes sure that BEGIN and SAVEPOINT can travel with the statement to
// come, or sends them before it.
func (c *conn) ready(ctx context.Context) error {
	if err := c.Ended(); err != nil {
		return fmt.Errorf("%w: %w", err, driver.ErrNotSent)
	}
	if c.separate {
		return c.flush(ctx)
	}
	return nil
}

// Flush is for scopetest, see [driver.Conn].
func (c *conn) Flush(ctx context.Context) error { return c.flush(ctx) }

// flush sends BEGIN and SAVEPOINT in a round trip of their own.
func (c *conn) flush(ctx context.Context) error {
	if texts := c.wire.take(); texts != "" {
		c.wire.behind.own = true
		_, err := c.Exec(ctx, texts)
		c.wire.behind.own = false
		c.wire.behind.begun = err == nil
		return c.Explain(err)
	}
	return nil
}

// Explain implements [sqlscope.Explainer]: it adds the wire's own error to that
// of a statement, since pgx may only say that the connection is closed.
func (c *conn) Explain(err error) error {
	if own := c.wire.failed(); err != nil && own != nil && !errors.Is(err, own) {
		return fmt.Errorf("%w: %w", own, err)
	}
	return err
}

// sent makes sure that a statement which succeeded took BEGIN with it, whatever
// way a future version of pgx may send it.
func (c *conn) sent(err error) error {
	if err == nil && c.begin != "" && !c.begun() {
		c.abandon()
		err = errors.New("pgxscope: this version of pgx has sent the statement without the scope's BEGIN")
	}
	return err
}

// SQL implements [sqlscope.Conn].
func (c *conn) SQL(ctx context.Context) (*sqlscope.RawConn, error) {
	if c.sql == nil {
		c.sql = sqlscope.NewRawConn(c.raw, driver.PostgreSQL|driver.PostgreSQLEscapes)
	}
	return c.sql, c.ready(ctx)
}

// Commit implements [driver.Conn]. Only what the server answers counts: pgx
// may call a COMMIT that went out "not sent".
func (c *conn) Commit(ctx context.Context) (driver.Outcome, error) {
	if err := c.Ended(); err != nil {
		return driver.Unknown, err
	}
	if !c.begun() {
		c.wire.take()
		return driver.Committed, nil // of nothing
	}
	c.wire.take()
	switch {
	case c.IsClosed():
		return driver.RolledBack, errors.New("the connection was lost before COMMIT was sent")
	case ctx.Err() != nil:
		return driver.RolledBack, fmt.Errorf("COMMIT was not sent: %w", context.Cause(ctx))
	case c.PgConn().TxStatus() == 'I':
		return driver.Unknown, driver.ErrEnded
	}
	c.wire.unconfirmed = false
	tag, err := c.end(ctx, "commit")
	var refused *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return c.committed()
	case err == nil:
		return driver.RolledBack, pgx.ErrTxCommitRollback
	case errors.As(err, &refused) && undoes(refused),
		refused != nil && c.PgConn().TxStatus() == 'I' && !c.IsClosed() && refused.Code != "40003":
		return driver.RolledBack, err
	default:
		return driver.Unknown, err
	}
}

// undoes reports an error that ended the session while its transaction was not
// committed: PostgreSQL raises it in these functions only while it waits for a
// statement, or before it writes the commit. Poolers and other servers, which use
// the same codes at other times, do not name them. See docs/outcomes.md.
func undoes(refused *pgconn.PgError) bool {
	return refused.Routine == "ProcessInterrupts" || refused.Routine == "secure_read"
}

// committed is the outcome of a COMMIT that the server has done.
func (c *conn) committed() (driver.Outcome, error) {
	if c.wire.unconfirmed {
		return driver.Unknown, driver.ErrUnconfirmed
	}
	return driver.Committed, nil
}

// CommitRows implements [driver.Positioner], in one simple query. What became
// of the transaction is what the answer to its second statement says.
func (c *conn) CommitRows(ctx context.Context, before, after string) (o driver.Outcome, was, is []string, err error) {
	if !c.begun() || c.Ended() != nil || c.IsClosed() || ctx.Err() != nil || c.PgConn().TxStatus() != 'T' {
		o, err = c.Commit(ctx)
		return o, nil, []string{}, err // where it is committed, it is of nothing
	}
	c.wire.take()
	c.wire.unconfirmed = false
	c.wire.behind.own = true
	defer c.bound(ctx)()
	results, err := c.PgConn().Exec(context.WithoutCancel(ctx), before+"; commit; "+after).ReadAll()
	var refused *pgconn.PgError
	switch said := len(results) > 1 && results[1].Err == nil; {
	case said && results[1].CommandTag.String() == "COMMIT":
		failed := err != nil || len(results) < 3
		if o, err = c.committed(); err != nil || failed {
			return o, nil, nil, err
		}
		return o, texts(results[0].Rows), texts(results[2].Rows), nil
	case said:
		return driver.RolledBack, nil, nil, pgx.ErrTxCommitRollback
	case errors.As(err, &refused) && undoes(refused):
		return driver.RolledBack, nil, nil, err
	case refused == nil || c.IsClosed() || refused.Code == "40003":
		return driver.Unknown, nil, nil, late(ctx, err)
	case c.PgConn().TxStatus() == 'E': // the first query failed
		if undo := c.Rollback(ctx); undo != nil {
			c.abandon()
		}
	}
	return driver.RolledBack, nil, nil, err
}

// Opened implements [driver.Aged]. Where [Configure] was not called, it is now.
func (c *conn) Opened() (since time.Time, process uint32) {
	since, process = c.wire.opened, c.PgConn().PID()
	if since.IsZero() {
		since = time.Now()
	}
	return since, process
}

// Rollback implements [driver.Conn]. For a BEGIN that was not sent nothing is.
func (c *conn) Rollback(ctx context.Context) error {
	if err := c.Ended(); err != nil {
		return err
	}
	begun := c.begun()
	c.wire.take()
	if !begun {
		return nil
	}
	_, err := c.end(ctx, "rollback")
	return err
}

// end runs a statement whose context ends only by its deadline: the network
// connection keeps that, without the goroutine that pgx starts otherwise.
func (c *conn) end(ctx context.Context, text string) (pgconn.CommandTag, error) {
	defer c.bound(ctx)()
	c.wire.behind.own = true
	tag, err := c.Exec(context.WithoutCancel(ctx), text)
	c.wire.behind.own = false
	if c.PgConn().TxStatus() == 'I' {
		c.wire.behind.begun = false
	}
	return tag, late(ctx, c.Explain(err))
}

// bound makes the network connection keep ctx's deadline until the function is
// called.
func (c *conn) bound(ctx context.Context) func() {
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() {}
	}
	network := c.PgConn().Conn()
	_ = network.SetDeadline(deadline)
	return func() { _ = network.SetDeadline(time.Time{}) }
}

func late(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

func savepoint(name string) string { return "savepoint " + name }

// Savepoint implements [driver.Conn]: it rides with the next statement.
func (c *conn) Savepoint(_ context.Context, name string) error {
	c.wire.add(savepoint(name))
	return nil
}

// RollbackTo implements [driver.Conn].
func (c *conn) RollbackTo(ctx context.Context, name string) error {
	if c.wire.drop(savepoint(name)) || c.Ended() != nil {
		return nil // it was never sent, or the end of the transaction tells
	}
	_, err := c.end(ctx, "rollback to savepoint "+name)
	return err
}

// ReleaseSavepoint implements [driver.Conn].
func (c *conn) ReleaseSavepoint(ctx context.Context, name string) error {
	if c.wire.drop(savepoint(name)) || c.Ended() != nil {
		return nil // as above
	}
	_, err := c.end(ctx, "release savepoint "+name)
	return err
}

// Row implements [driver.Conn].
func (c *conn) Row(ctx context.Context, statement string) ([]string, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	c.wire.behind.own = true
	results, err := c.PgConn().Exec(ctx, statement).ReadAll()
	c.wire.behind.own = false
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return texts(results[0].Rows), nil
}

// texts returns the first row, nil where there is none.
func texts(rows [][][]byte) []string {
	if len(rows) == 0 {
		return nil
	}
	row := make([]string, len(rows[0]))
	for i, column := range rows[0] {
		row[i] = string(column)
	}
	return row
}

// Check implements [driver.Conn]: the server has said what it did. A first
// statement that failed while it was prepared leaves no transaction at all,
// and so the session counts as undone.
func (c *conn) Check(_ context.Context, err error) driver.Fate {
	if c.IsClosed() || !c.wire.quiet() || errors.As(err, new(sqlscope.LostError)) {
		return driver.Lost
	}
	if c.Ended() != nil {
		return driver.Intact // every statement to come, and the end, tells of it
	}
	switch c.PgConn().TxStatus() {
	case 'E':
		return driver.Aborted
	case 'T':
		return driver.Intact
	default:
		if c.begun() {
			return driver.Undone
		}
		return driver.Intact
	}
}

// abandon closes the connection at once.
func (c *conn) abandon() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ctx)
}

// Release implements [driver.Conn].
func (c *conn) Release(reuse bool) {
	c.wire.take()
	reuse = reuse && c.wire.quiet() && c.Ended() == nil
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

// sendBatch is pgx's SendBatch with BEGIN and SAVEPOINT in front, also in the
// mode in which pgx writes a batch past the [wire].
func (c *conn) sendBatch(ctx context.Context, b *pgx.Batch) (pgx.BatchResults, error) {
	if b.Len() == 0 || c.Config().DefaultQueryExecMode != pgx.QueryExecModeExec {
		return c.SendBatch(ctx, b), nil
	}
	if _, err := c.wire.Write(nil); err != nil {
		return nil, err
	}
	results := c.SendBatch(ctx, b)
	if c.IsClosed() || c.PgConn().IsBusy() || c.wire.quiet() {
		return results, nil
	}
	// pgx has refused the batch, and so nothing came after BEGIN.
	return results, c.sync(ctx)
}

// sync waits for the answers to what was sent ahead of nothing.
func (c *conn) sync(ctx context.Context) error {
	if err := c.wire.sync(); err != nil {
		return err
	}
	var refused error
	for {
		message, err := c.PgConn().ReceiveMessage(ctx)
		if err != nil {
			return c.Explain(err)
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			return refused
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		}
	}
}
