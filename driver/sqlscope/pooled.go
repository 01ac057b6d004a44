package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"sync"

	"github.com/dbscope/dbscope/driver"
)

// Outside of a scope a prepared statement is one of the pool itself, which prepares
// it on each of its connections once. A unit prepares on its own connection instead,
// which it has to have for its transaction.

// StatementKeeper is a [Conn] that can keep what was prepared on its connection for
// the next one who has that connection.
type StatementKeeper interface {
	// KeepStatement is called before a text is prepared, or used again, outside of a
	// scope. It reports false where it is not to be kept.
	KeepStatement(ctx context.Context, query string) bool
	// ForgetStatement is called when it has been closed.
	ForgetStatement(query string)
}

// on returns what executes the statement in the session, on its connection or, where
// nothing is asked of that, on another one of the pool.
func (st *stmt) on(ctx context.Context, s driver.Session, c *RawConn) (sqldriver.Stmt, error) {
	u, outside := s.(driver.Unscoped)
	if !outside {
		return c.prepared(ctx, st)
	}
	if k, is := c.of.(StatementKeeper); is && k.KeepStatement(ctx, st.query) {
		return prepareToKeep(ctx, k, c.raw, st.query)
	}
	lent, is := c.of.(*conn)
	if !is || !u.Bare() || st.ofConn() || copyText.MatchString(st.query) {
		return c.prepared(ctx, st)
	}
	lent.yield()
	if st.pooled == nil || st.pooled.engine != lent.engine { // there was none, or the host was switched
		st.leavePool()
		p, err := lent.engine.statement(ctx, st.query)
		if err != nil {
			return nil, err
		}
		st.pooled = p
	}
	return st.pooled, nil
}

// ofConn reports whether the statement may be one of a *sql.Conn, whose connection it
// has to run on. One of a *sql.DB was prepared before the shell was last put back,
// except when it is prepared on a further shell for its first use there.
func (st *stmt) ofConn() bool { return st.turn == st.sh.turn }

func (st *stmt) leavePool() {
	if p := st.pooled; p != nil {
		st.pooled = nil
		p.leave()
	}
}

// kept is a statement that its connection keeps, unless it fails: the next one may need
// another plan.
type kept struct {
	sqldriver.Stmt
	keeper StatementKeeper
	query  string
}

func prepareToKeep(ctx context.Context, k StatementKeeper, raw sqldriver.Conn, query string) (sqldriver.Stmt, error) {
	s, err := prepare(ctx, raw, query)
	if err != nil {
		k.ForgetStatement(query)
		return nil, err
	}
	return kept{s, k, query}, nil
}

// ExecContext implements [sqldriver.StmtExecContext].
func (k kept) ExecContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	result, err := execStmt(ctx, k.Stmt, args)
	k.executed(err)
	return result, err
}

// QueryContext implements [sqldriver.StmtQueryContext].
func (k kept) QueryContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	rows, err := queryStmt(ctx, k.Stmt, args)
	k.executed(err)
	return rows, err
}

// converted is convert, whose failure is one of the statement, too.
func converted(c sqldriver.Conn, s sqldriver.Stmt, args []sqldriver.NamedValue) ([]sqldriver.NamedValue, error) {
	args, err := convert(c, s, args)
	if k, is := s.(kept); is {
		k.executed(err)
	}
	return args, err
}

func (k kept) executed(err error) {
	if err != nil {
		k.keeper.ForgetStatement(k.query)
		_ = k.Close() // what failed is told already
	}
}

// statements are those of a pool, by their texts.
type statements struct {
	mu  sync.Mutex // guards users of each, too
	all map[string]*pooled
}

// pooled is a statement of a pool, for all who have prepared the same text. It
// implements [sqldriver.Stmt]; several goroutines may execute it.
type pooled struct {
	stmt   *sql.Stmt
	engine *engine
	query  string
	users  int // the last of them closes it
}

// statement returns the pool's statement for a text, which its user leaves.
func (e *engine) statement(ctx context.Context, query string) (*pooled, error) {
	if p := e.statements.known(query, nil); p != nil {
		return p, nil
	}
	s, err := e.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, e.pooledError(err)
	}
	p := &pooled{stmt: s, engine: e, query: query}
	if known := e.statements.known(query, p); known != p { // prepared meanwhile
		return known, s.Close()
	}
	return p, nil
}

// known counts a user of the statement that is known for a text, or of a new one.
func (s *statements) known(query string, or *pooled) *pooled {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[query]
	if p == nil {
		p = or
	}
	if p == nil {
		return nil
	}
	if s.all == nil {
		s.all = map[string]*pooled{}
	}
	s.all[query] = p
	p.users++
	return p
}

func (p *pooled) leave() {
	s := &p.engine.statements
	s.mu.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(s.all, p.query)
	}
	s.mu.Unlock()
	if last {
		_ = p.stmt.Close() // which says nothing of what was executed
	}
}

// pooledError is the error of a statement that the pool has executed. It may have
// made a connection for it, see [Open]; the server's own errors pass.
func (e *engine) pooledError(err error) error {
	if f := failureOf(err); f.state == "" && f.code == 0 {
		err = e.source.Mask(err)
	}
	return hide(err) // the pool has tried again, as often as it does
}

// Close implements [sqldriver.Stmt].
func (p *pooled) Close() error { return nil }

// NumInput implements [sqldriver.Stmt]: the pool counts.
func (p *pooled) NumInput() int { return -1 }

// CheckNamedValue implements [sqldriver.NamedValueChecker]: the pool converts.
func (p *pooled) CheckNamedValue(*sqldriver.NamedValue) error { return nil }

// Exec implements [sqldriver.Stmt].
func (p *pooled) Exec([]sqldriver.Value) (sqldriver.Result, error) { return nil, errOldMethod }

// Query implements [sqldriver.Stmt].
func (p *pooled) Query([]sqldriver.Value) (sqldriver.Rows, error) { return nil, errOldMethod }

// ExecContext implements [sqldriver.StmtExecContext].
func (p *pooled) ExecContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	result, err := p.stmt.ExecContext(ctx, arguments(args)...)
	if err != nil {
		return nil, p.engine.pooledError(err)
	}
	return result, nil
}

// QueryContext implements [sqldriver.StmtQueryContext].
func (p *pooled) QueryContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	found, err := p.stmt.QueryContext(ctx, arguments(args)...) //nolint:rowserrcheck // Next does
	return asDriverRows(found, err, p.engine.pooledError)
}
