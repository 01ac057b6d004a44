package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// faults go wrong in a real driver, at the statements that begin with a text.
type faults struct {
	mu     sync.Mutex
	before map[string]error // instead of the statement
	after  map[string]error // instead of its answer
	skips  string           // statements that must be prepared
	single string           // a statement that fails once
	sent   []string
}

// skip makes the driver run statements that begin with text only as prepared.
func (f *faults) skip(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after, f.skips = nil, nil, text
}

// once makes the next statement that begins with text fail before it is sent.
func (f *faults) once(text string, err error) {
	f.at(text, err, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.single = text
}

func (f *faults) skipped(query string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.skips != "" && strings.HasPrefix(query, f.skips)
}

func (f *faults) at(text string, before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skips = ""
	f.before, f.after = map[string]error{text: before}, map[string]error{text: after}
}

func (f *faults) find(in func(*faults) map[string]error, query string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for text, err := range in(f) {
		if strings.HasPrefix(query, text) {
			if f.single == text {
				f.before, f.single = nil, ""
			}
			return err
		}
	}
	return nil
}

func (f *faults) count(text string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, query := range f.sent {
		if strings.HasPrefix(query, text) {
			n++
		}
	}
	return n
}

// call runs a statement between its faults.
func call[T any](f *faults, query string, do func() (T, error)) (T, error) {
	var none T
	if err := f.find(func(f *faults) map[string]error { return f.before }, query); err != nil {
		return none, err
	}
	f.mu.Lock()
	f.sent = append(f.sent, query)
	f.mu.Unlock()
	res, err := do()
	if fault := f.find(func(f *faults) map[string]error { return f.after }, query); fault != nil {
		if c, open := any(res).(io.Closer); open && err == nil {
			err = c.Close()
		}
		return none, errors.Join(fault, err)
	}
	return res, err
}

// openFaulty opens the database through a driver that fails on demand.
func openFaulty(t *testing.T, d database, opts ...dbscope.DBOption) (*opened, *faults) {
	o := open(t, d, opts...)
	f := &faults{}
	faulty := &opened{database: d, dialed: o.dialed, other: o.other}
	pool, err := o.scoped.(overSQL).Engine(t.Context())
	ok(t, err)
	faulty.scoped = overSQL{sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		return sql.OpenDB(faultyConnector{pool, f}), nil
	}, append([]dbscope.DBOption{dbscope.Name("test")}, opts...)...)}
	t.Cleanup(func() { ok(t, faulty.Close()) })
	return faulty, f
}

type faultyConnector struct {
	pool *sql.DB
	f    *faults
}

func (c faultyConnector) Driver() sqldriver.Driver { return c.pool.Driver() }

// Connect keeps the pooled connection checked out for good.
func (c faultyConnector) Connect(context.Context) (sqldriver.Conn, error) {
	pooled, err := c.pool.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	conn := &faultyConn{f: c.f, pooled: pooled}
	return conn, pooled.Raw(func(raw any) error { conn.Conn = raw.(sqldriver.Conn); return nil })
}

type faultyConn struct {
	sqldriver.Conn
	f      *faults
	pooled *sql.Conn
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	if c.f.skipped(query) {
		return nil, sqldriver.ErrSkip
	}
	return call(c.f, query, func() (sqldriver.Result, error) {
		return c.Conn.(sqldriver.ExecerContext).ExecContext(ctx, query, args)
	})
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	if c.f.skipped(query) {
		return nil, sqldriver.ErrSkip
	}
	return call(c.f, query, func() (sqldriver.Rows, error) {
		return c.Conn.(sqldriver.QueryerContext).QueryContext(ctx, query, args)
	})
}

func (c *faultyConn) PrepareContext(ctx context.Context, query string) (sqldriver.Stmt, error) {
	return call(c.f, "PREPARE "+query, func() (sqldriver.Stmt, error) {
		stmt, err := c.Conn.(sqldriver.ConnPrepareContext).PrepareContext(ctx, query)
		return faultyStmt{stmt, c.f, query}, err
	})
}

type faultyStmt struct {
	sqldriver.Stmt
	f     *faults
	query string
}

func (s faultyStmt) ExecContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	return call(s.f, s.query, func() (sqldriver.Result, error) {
		return s.Stmt.(sqldriver.StmtExecContext).ExecContext(ctx, args)
	})
}

func (s faultyStmt) QueryContext(ctx context.Context, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	return call(s.f, s.query, func() (sqldriver.Rows, error) {
		return s.Stmt.(sqldriver.StmtQueryContext).QueryContext(ctx, args)
	})
}

func (s faultyStmt) Close() error {
	_, err := call(s.f, "CLOSE "+s.query, func() (struct{}, error) { return struct{}{}, s.Stmt.Close() })
	return err
}

func (c *faultyConn) BeginTx(ctx context.Context, opts sqldriver.TxOptions) (sqldriver.Tx, error) {
	return call(c.f, "BEGIN", func() (sqldriver.Tx, error) {
		tx, err := c.Conn.(sqldriver.ConnBeginTx).BeginTx(ctx, opts)
		return faultyTx{tx, c.f}, err
	})
}

func (c *faultyConn) Ping(ctx context.Context) error {
	_, err := call(c.f, "PING", func() (struct{}, error) {
		return struct{}{}, c.Conn.(sqldriver.Pinger).Ping(ctx)
	})
	return err
}

func (c *faultyConn) CheckNamedValue(v *sqldriver.NamedValue) error {
	if checker, is := c.Conn.(sqldriver.NamedValueChecker); is {
		return checker.CheckNamedValue(v)
	}
	return sqldriver.ErrSkip
}

func (c *faultyConn) Close() error {
	_ = c.pooled.Raw(func(any) error { return sqldriver.ErrBadConn })
	return nil
}

type faultyTx struct {
	sqldriver.Tx
	f *faults
}

func (t faultyTx) Commit() error {
	_, err := call(t.f, "COMMIT", func() (struct{}, error) { return struct{}{}, t.Tx.Commit() })
	return err
}

func (t faultyTx) Rollback() error {
	_, err := call(t.f, "ROLLBACK", func() (struct{}, error) { return struct{}{}, t.Tx.Rollback() })
	return err
}
