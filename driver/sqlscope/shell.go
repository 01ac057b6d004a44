package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// sessionKey is the context key of the session a handle belongs to.
type sessionKey struct{}

// shell is a connection as database/sql sees it.
type shell struct {
	pool *handle
	tx   driver.Session // between BeginTx and the end
	last uint64         // the ID of the session of the last Exec in a scope, or 0
	uses uint8          // statements, modulo 256

	turn    uint64          // how often database/sql has taken it back
	outside driver.Unscoped // has the connection for what has no scope, see [shell.letGo]; else nil
}

// session returns the transaction's session, else the one of ctx's scope, else, in
// the hands of the same user, always the same one.
func (sh *shell) session(ctx context.Context) (driver.Session, error) {
	if sh.tx != nil {
		return sh.tx, nil
	}
	s, err := sh.pool.session(ctx)
	if u, is := s.(driver.Unscoped); is && u.Keep() && sh.outside != nil {
		return sh.outside, nil
	}
	return s, err
}

// opened notes that a session has a connection, which may be the shell's.
func (sh *shell) opened(s driver.Session) {
	if u, is := s.(driver.Unscoped); is && u.Keep() {
		sh.outside = u
	}
}

// notOpened ends a session that has a connection, perhaps, and is not the shell's.
func (sh *shell) notOpened(s driver.Session) {
	if u, is := s.(driver.Unscoped); is && u != sh.outside {
		u.GiveBack()
	}
}

// letGo gives the connection for what has no scope back. A *sql.Conn has it until it
// is closed: settings, advisory locks and temporary tables hold from one statement to
// the next. Others have it for one statement, or a transaction.
func (sh *shell) letGo() {
	if u := sh.outside; u != nil {
		sh.outside = nil
		u.GiveBack()
	}
}

// lift takes away a limit on open connections: with one, statements that wait
// for a lock would keep its holder from its next statement. A shell looks for one
// with its first statement, without which no limit is reached, and for one that
// came later with some others: to ask takes the lock of the whole *sql.DB.
func (sh *shell) lift() {
	if sh.uses%16 == 0 && sh.pool.db.Stats().MaxOpenConnections > 0 {
		sh.pool.db.SetMaxOpenConns(0)
	}
	sh.uses++
}

// enter admits a statement.
func (sh *shell) enter(ctx context.Context, query string) (driver.Session, *RawConn, error) {
	word, in := driver.ControlStatement(driver.AnyDialect, query)
	if in == driver.AnyDialect {
		return nil, nil, refused(word)
	}
	s, err := sh.session(ctx)
	if err != nil {
		return nil, nil, err
	}
	dc, err := s.Enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	sh.opened(s)
	of := dc.(Conn)
	c, err := of.SQL(ctx)
	if err != nil {
		return nil, nil, s.Exit(ctx, hide(err))
	}
	sh.lift()
	c.of = of
	if err := c.ready(query); err != nil {
		return nil, nil, s.Exit(ctx, err)
	}
	if in != 0 && c.reads(ctx, in) {
		return nil, nil, s.Exit(ctx, fmt.Errorf("%w: %w", refused(word), driver.ErrNotSent))
	}
	return s, c, nil
}

var errPanicked = errors.New("a statement panicked")

// observed tells those who observe the statement, which was admitted, and returns the
// context to send it with.
func observed(ctx context.Context, s driver.Session, st driver.Statement) context.Context {
	if o := s.Observer(); o != nil {
		return o.Start(ctx, st)
	}
	return ctx
}

// refused is the answer to a transaction that was to be ended, or begun, by SQL
// text.
func refused(word string) error {
	return fmt.Errorf("sqlscope: the statement %s would end the scope's transaction behind its back: "+
		"use the methods of the DB or of its handle: %w", word, dbscope.ErrOpenTransaction)
}

// exit ends a statement. A panic of the driver, or of a Valuer among the
// arguments, leaves the connection in a state nobody knows: done is false. The
// query is "" where nothing was executed.
func exit(ctx context.Context, s driver.Session, c *RawConn, query string, done *bool, err *error) {
	switch {
	case !*done:
		_ = s.Exit(ctx, LostError{errPanicked})
	case errors.Is(*err, sqldriver.ErrSkip):
		_ = s.Exit(ctx, driver.ErrNotSent)
		*err = sqldriver.ErrSkip
	default:
		*err = hide(*err)
		if explainer, is := c.of.(Explainer); is && *err != nil {
			*err = explainer.Explain(*err)
		}
		if c.watch != nil && query != "" {
			*err = c.watch.after(ctx, *err)
		}
		*err = s.Exit(ctx, *err)
		if e, is := (*err).(unsent); is { //nolint:errorlint // where it is wrapped it stays
			*err = e.error
		}
	}
}

// executed notes whose the sql.Result to come is, see [shell.ResetSession].
func (sh *shell) executed(s driver.Session) {
	sh.last = 0
	if s != sh.outside {
		sh.last = s.ID()
	}
}

// ExecContext implements [sqldriver.ExecerContext].
func (sh *shell) ExecContext(ctx context.Context, query string, args []sqldriver.NamedValue) (res sqldriver.Result, err error) {
	s, c, err := sh.enter(ctx, query)
	if err != nil {
		return nil, err
	}
	done := false
	defer exit(ctx, s, c, query, &done, &err)
	ctx = observed(ctx, s, driver.Statement{Text: query})
	if args, err = convert(c.raw, nil, args); err == nil {
		if err = c.expect(ctx, query); err == nil {
			res, err = c.exec(ctx, query, args)
		}
		sh.executed(s)
	}
	done = true
	return res, err
}

// QueryContext implements [sqldriver.QueryerContext].
func (sh *shell) QueryContext(ctx context.Context, query string, args []sqldriver.NamedValue) (rows sqldriver.Rows, err error) {
	defer answered(ctx, &rows)
	ctx = heard(ctx)
	s, c, err := sh.enter(ctx, query)
	if err != nil {
		return nil, err
	}
	done := false
	defer hold(ctx, s, c, query, &rows, &done, &err)
	ctx = observed(ctx, s, driver.Statement{Text: query})
	if args, err = convert(c.raw, nil, args); err == nil {
		if err = c.expect(ctx, query); err == nil {
			rows, err = c.query(ctx, query, args)
		}
	}
	done = true
	return rows, err
}

// BeginTx implements [sqldriver.ConnBeginTx]. For a handle it stands for the
// whole session, else for a block nested in it.
func (sh *shell) BeginTx(ctx context.Context, opts sqldriver.TxOptions) (sqldriver.Tx, error) {
	outer := sh.tx
	if s, ok := ctx.Value(sessionKey{}).(driver.Session); ok {
		sh.tx = s
		return &shellTx{sh, outer}, nil
	}
	s, err := sh.session(ctx)
	if err != nil {
		return nil, err
	}
	begin := s.Begin
	if sh.pool.join {
		begin = s.Join
	}
	block, err := begin(ctx, sql.TxOptions{Isolation: sql.IsolationLevel(opts.Isolation), ReadOnly: opts.ReadOnly})
	if err != nil {
		sh.notOpened(s)
		return nil, err
	}
	sh.opened(s)
	sh.tx = block
	return &shellTx{sh, outer}, nil
}

// shellTx implements [sqldriver.Tx].
type shellTx struct {
	sh    *shell
	outer driver.Session
}

func (t *shellTx) Commit() error   { return t.end(driver.Session.Commit) }
func (t *shellTx) Rollback() error { return t.end(driver.Session.Rollback) }

func (t *shellTx) end(end func(driver.Session, context.Context) error) error {
	s := t.sh.tx
	t.sh.tx = t.outer
	return hide(end(s, context.Background()))
}

// Ping implements [sqldriver.Pinger]: it asks the pool.
func (sh *shell) Ping(ctx context.Context) error {
	e, err := sh.pool.gate.Engine(ctx)
	if err != nil {
		return err
	}
	return hide(e.(interface{ Ping(context.Context) error }).Ping(ctx))
}

// CheckNamedValue implements [sqldriver.NamedValueChecker]. The arguments pass
// as they are: which driver they are for is known when the statement runs.
func (sh *shell) CheckNamedValue(*sqldriver.NamedValue) error { return nil }

// ResetSession implements [sqldriver.SessionResetter]. It lets go of a shell
// that ran an Exec of another session: whoever reads that one's sql.Result
// waits for the shell's lock, and this call may come to wait for that one's
// locks in the database.
func (sh *shell) ResetSession(ctx context.Context) error {
	if sh.last == 0 {
		return nil
	}
	if s, err := sh.session(ctx); err != nil || s.ID() != sh.last {
		return sqldriver.ErrBadConn
	}
	return nil
}

// IsValid implements [sqldriver.Validator], which database/sql calls when its user has
// done with a shell; with ResetSession it makes database/sql keep a shell after a
// transaction that it rolled back itself.
func (sh *shell) IsValid() bool {
	sh.letGo()
	sh.turn++
	return sh.tx == nil
}

// Close implements [sqldriver.Conn].
func (sh *shell) Close() error {
	sh.letGo()
	return nil
}

// Begin implements [sqldriver.Conn]; database/sql calls BeginTx.
func (sh *shell) Begin() (sqldriver.Tx, error) {
	return sh.BeginTx(context.Background(), sqldriver.TxOptions{})
}

// Prepare implements [sqldriver.Conn]; database/sql calls PrepareContext.
func (sh *shell) Prepare(query string) (sqldriver.Stmt, error) {
	return sh.PrepareContext(context.Background(), query)
}
