package sqlscope

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// stmt is a prepared statement as database/sql sees it. A session prepares it
// on its own connection when it uses it, and closes that at its end. See
// [stmt.on] for what happens outside of scopes.
type stmt struct {
	sh    *shell
	query string
	turn  uint64                  // the shell's, when it was made
	last  atomic.Pointer[RawConn] // where it was prepared last, until that forgets it

	pooled *pooled // the pool's, which executes it outside of scopes; nil where it has not yet
}

// PrepareContext implements [sqldriver.ConnPrepareContext].
func (sh *shell) PrepareContext(ctx context.Context, query string) (_ sqldriver.Stmt, err error) {
	ctx = heard(ctx)
	st := &stmt{sh: sh, query: query, turn: sh.turn}
	if _, scoped := dbscope.FromContext(ctx); sh.tx == nil && !scoped {
		if word, in := driver.ControlStatement(driver.AnyDialect, query); in == driver.AnyDialect {
			return nil, refused(word)
		}
		return st, nil // other dialects are known with the first use
	}
	s, c, err := sh.enter(ctx, query)
	if err != nil {
		return nil, err
	}
	done := false
	defer exit(ctx, s, c, "", &done, &err)
	ctx = observed(ctx, s, driver.Statement{Text: query, Prepares: true})
	_, err = c.prepared(ctx, st)
	done = true
	return st, err
}

// NumInput implements [sqldriver.Stmt]: the driver counts when it runs.
func (st *stmt) NumInput() int { return -1 }

// ExecContext implements [sqldriver.StmtExecContext].
func (st *stmt) ExecContext(ctx context.Context, args []sqldriver.NamedValue) (res sqldriver.Result, err error) {
	ctx = heard(ctx)
	s, c, err := st.sh.enter(ctx, st.query)
	if err != nil {
		return nil, err
	}
	done := false
	defer exit(ctx, s, c, st.query, &done, &err)
	ctx = observed(ctx, s, driver.Statement{Text: st.query})
	raw, err := st.on(ctx, s, c)
	if err == nil {
		if args, err = converted(c.raw, raw, args); err == nil {
			if err = c.expect(ctx, st.query); err == nil {
				res, err = execStmt(ctx, raw, args)
			}
			if c.copying == st && len(args) == 0 {
				c.copying = nil // it has ended, well or not
			}
			st.sh.executed(s)
		}
	}
	done = true
	return res, err
}

// QueryContext implements [sqldriver.StmtQueryContext].
func (st *stmt) QueryContext(ctx context.Context, args []sqldriver.NamedValue) (rows sqldriver.Rows, err error) {
	defer answered(ctx, &rows)
	ctx = heard(ctx)
	s, c, err := st.sh.enter(ctx, st.query)
	if err != nil {
		return nil, err
	}
	done := false
	defer hold(ctx, s, c, st.query, &rows, &done, &err)
	ctx = observed(ctx, s, driver.Statement{Text: st.query})
	raw, err := st.on(ctx, s, c)
	if err == nil {
		if args, err = converted(c.raw, raw, args); err == nil {
			if err = c.expect(ctx, st.query); err == nil {
				rows, err = queryStmt(ctx, raw, args)
			}
		}
	}
	done = true
	return rows, err
}

// Close implements [sqldriver.Stmt]. A statement of a transaction is closed on
// its connection at once where the session is free: what fails then, as a COPY
// may, is the caller's to know. The connection of any other statement may serve
// another goroutine by now: it closes its part before its next statement, or
// before the end.
func (st *stmt) Close() error {
	st.leavePool()
	c := st.last.Load()
	if c == nil || !c.retire(st) || st.sh.tx == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s := st.sh.tx
	dc, err := s.Enter(ctx)
	if err != nil {
		return nil // busy, or over: as above
	}
	c, err = dc.(Conn).SQL(ctx)
	if err == nil {
		err = c.sweep()
	}
	if err != nil {
		return s.Exit(ctx, hide(err))
	}
	_ = s.Exit(ctx, driver.ErrNotSent) // that it went well says nothing of the transaction
	return nil
}

// closeTimeout is for the wait until a session of a test is free.
const closeTimeout = 5 * time.Second

// Exec implements [sqldriver.Stmt]; database/sql calls ExecContext.
func (st *stmt) Exec([]sqldriver.Value) (sqldriver.Result, error) { return nil, errOldMethod }

// Query implements [sqldriver.Stmt]; database/sql calls QueryContext.
func (st *stmt) Query([]sqldriver.Value) (sqldriver.Rows, error) { return nil, errOldMethod }

var errOldMethod = errors.New("sqlscope: call the method that takes a context")

func prepare(ctx context.Context, raw sqldriver.Conn, query string) (sqldriver.Stmt, error) {
	if p, ok := raw.(sqldriver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	return raw.Prepare(query)
}

func execStmt(ctx context.Context, s sqldriver.Stmt, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	if x, ok := s.(sqldriver.StmtExecContext); ok {
		return x.ExecContext(ctx, args)
	}
	values, err := unnamed(args)
	if err != nil {
		return nil, err
	}
	return s.Exec(values) //nolint:staticcheck // all an old driver has
}

func queryStmt(ctx context.Context, s sqldriver.Stmt, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	if q, ok := s.(sqldriver.StmtQueryContext); ok {
		return q.QueryContext(ctx, args)
	}
	values, err := unnamed(args)
	if err != nil {
		return nil, err
	}
	return s.Query(values) //nolint:staticcheck // all an old driver has
}

func unnamed(args []sqldriver.NamedValue) ([]sqldriver.Value, error) {
	values := make([]sqldriver.Value, len(args))
	for i, a := range args {
		if a.Name != "" {
			return nil, unsent{errors.New("sql: driver does not support the use of Named Parameters")}
		}
		values[i] = a.Value
	}
	return values, nil
}

// convert does what database/sql does to arguments before a driver gets them:
// the statement's checker, the connection's, the statement's converter, the
// default. Its errors are those of database/sql. See driverArgsConnLocked there.
func convert(raw sqldriver.Conn, st sqldriver.Stmt, args []sqldriver.NamedValue) ([]sqldriver.NamedValue, error) {
	checker, ok := st.(sqldriver.NamedValueChecker)
	if !ok {
		checker, _ = raw.(sqldriver.NamedValueChecker)
	}
	converter, _ := st.(sqldriver.ColumnConverter) //nolint:staticcheck // some drivers have nothing newer
	kept := args[:0]
	for i := range args {
		a := &args[i]
		err := sqldriver.ErrSkip
		if checker != nil {
			err = checker.CheckNamedValue(a)
		}
		if err != nil && errors.Is(err, sqldriver.ErrSkip) {
			a.Value, err = defaultConverter(converter, len(kept)).ConvertValue(a.Value)
		}
		switch {
		case err == nil:
			kept = append(kept, *a)
		case !errors.Is(err, sqldriver.ErrRemoveArgument):
			return nil, unsent{fmt.Errorf("sql: converting argument %s type: %w", described(a), err)}
		}
	}
	if st != nil {
		if n := st.NumInput(); n >= 0 && n != len(kept) {
			return nil, unsent{fmt.Errorf("sql: expected %d arguments, got %d", n, len(kept))}
		}
	}
	return kept, nil
}

func described(a *sqldriver.NamedValue) string {
	if a.Name != "" {
		return fmt.Sprintf("with name %q", a.Name)
	}
	return fmt.Sprintf("$%d", a.Ordinal)
}

func defaultConverter(c sqldriver.ColumnConverter, column int) sqldriver.ValueConverter { //nolint:staticcheck // as above
	if c != nil {
		return c.ColumnConverter(column)
	}
	return sqldriver.DefaultParameterConverter
}
