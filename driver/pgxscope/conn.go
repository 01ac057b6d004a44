package pgxscope

import (
	"context"
	"database/sql"
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

// conn implements [driver.Conn]. The core never uses it from two goroutines at
// once.
type conn struct {
	*pgx.Conn
	raw      *stdlib.Conn
	pooled   *pgxpool.Conn     // nil where raw was taken from the pool
	sql      *sqlscope.RawConn // once asked for
	wire     *wire
	separate bool   // BEGIN and SAVEPOINT take a round trip of their own
	fresh    bool   // it was looked at when it was taken, and not used since
	begin    string // the transaction's first statement, empty without one
	opts     driver.TxOptions
	last     func(context.Context) error // goes with the COMMIT to come
	lent     bool                        // what ran on it was not dbscope's to see
	adopted  *adopted                    // where the transaction is other code's, else nil
	keeps    int                         // how many statements may be kept, see KeepStatement
	prepared []string                    // names that the handle has given to statements
}

// What the core asks at run time whether a connection can do.
var _ interface {
	driver.BackendIdentifier
	driver.CommitQuerier
	driver.Dialecter
	driver.Ender
	driver.Execer
	driver.Flusher
	driver.LastCommitter
	driver.Looker
	driver.PipelinedEnder
	driver.Resetter
	driver.Setter
} = (*conn)(nil)

// Begin implements [driver.Conn]: nothing is sent yet. A connection that was lost
// after an earlier transaction of the unit is found out here, and replaced.
func (c *conn) Begin(_ context.Context, opts driver.TxOptions) (err error) {
	if !c.fresh {
		if err := c.Look(); err != nil {
			return err
		}
	}
	c.fresh = false
	c.wire.forget()
	c.begin, err = beginSQL(opts)
	if err == nil {
		c.opts, c.lent = opts, false
		c.wire.add(ahead{text: c.begin})
		c.learnIsolation()
	}
	return err
}

// isGone reports whether the connection may be somebody else's, whose transaction on
// it was adopted.
func (c *conn) isGone() bool { return c.adopted != nil && c.adopted.gone() }

// begun reports whether there is a transaction on the server, or was one.
func (c *conn) begun() bool { return c.begin != "" && !c.wire.waits(c.begin) }

var readOnlyByDefault = driver.TxOptions{TxOptions: sql.TxOptions{ReadOnly: true}}

// beginSQL returns the statement that begins a transaction with the options.
func beginSQL(opts driver.TxOptions) (string, error) {
	switch opts { // the usual ones, without making a text
	case driver.TxOptions{}:
		return "begin", nil
	case readOnlyByDefault:
		return "begin read only", nil
	}
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
	if c.adopted != nil {
		if err := c.adopted.look(); err != nil {
			return err
		}
	}
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
	if c.adopted != nil {
		return nil, errNoSQL
	}
	if c.sql == nil {
		c.sql = sqlscope.NewRawConn(c.raw, driver.PostgreSQL|driver.PostgreSQLEscapes)
	}
	return c.sql, c.ready(ctx)
}

// Dialect implements [driver.Dialecter].
func (c *conn) Dialect() driver.Dialect { return driver.PostgreSQL | driver.PostgreSQLEscapes }

// Backend implements [driver.BackendIdentifier]. Where [Configure] was not called, it is now.
func (c *conn) Backend() (since time.Time, process uint32) {
	since, process = c.wire.opened, c.PgConn().PID()
	if since.IsZero() {
		since = time.Now()
	}
	return since, process
}

// FirstRow implements [driver.Conn].
func (c *conn) FirstRow(ctx context.Context, statement string) ([]string, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	c.wire.behind.own = true
	results, err := c.PgConn().Exec(ctx, statement).ReadAll()
	c.wire.behind.ownOver(c.PgConn().TxStatus())
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
	if c.isGone() {
		return driver.Lost
	}
	if c.Ended() != nil {
		return driver.Intact // every statement to come, and the end, tells of it
	}
	if c.IsClosed() || !c.wire.quiet() || errors.As(err, new(sqlscope.LostError)) {
		return driver.Lost
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
	if c.pooled != nil {
		c.pooled.Release()
	} else {
		_ = c.raw.Close() // gives it back to the pool
	}
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
