package sqlscope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/sqltext"
)

// witness shows that the transaction that is open after a statement is the one
// that was open before it. On MariaDB and MySQL many statements commit the transaction
// they are part of, and a procedure may begin another one behind it, so that
// asking whether one is open proves nothing. A savepoint that was made before
// the statement goes with its transaction.
type witness struct {
	suspect sqltext.Suspicion
	called  bool   // the savepoint is there, and after has not looked at it
	ends    string // of showEnds, asked for in this transaction
}

// mark is the savepoint's name, which is not like those of the core. A savepoint
// of the same name, left by a statement that was not sent, is replaced.
const mark = sqltext.Marks + "witness"

// showEnds asks how many statements of the connection could have ended a
// transaction. It tells, where the witness is gone after an error, whether the
// server has undone the transaction, as after a deadlock, or something was
// committed before that. A SET of autocommit inside a procedure is not counted,
// for the sake of all other SETs. The number of COMMITs is there in any case, since a
// server without these numbers would seem to have done nothing.
const showEnds = "SHOW SESSION STATUS WHERE Variable_name = 'Com_commit' OR Variable_name LIKE 'Com\\_%' AND Value <> '0' " +
	"AND Variable_name NOT IN ('Com_select', 'Com_insert', 'Com_insert_select', 'Com_update', 'Com_update_multi', " +
	"'Com_delete', 'Com_delete_multi', 'Com_replace', 'Com_replace_select', 'Com_do', 'Com_load', 'Com_set_option', " +
	"'Com_savepoint', 'Com_release_savepoint', 'Com_rollback_to_savepoint', 'Com_call_procedure', 'Com_compound_sql', " +
	"'Com_prepare_sql', 'Com_execute_sql', 'Com_execute_immediate', 'Com_dealloc_sql', 'Com_stmt_prepare', " +
	"'Com_stmt_execute', 'Com_stmt_close', 'Com_stmt_fetch', 'Com_stmt_reset', 'Com_stmt_reprepare', 'Com_stmt_send_long_data', " +
	"'Com_signal', 'Com_resignal', 'Com_get_diagnostics', 'Com_create_temporary_table', 'Com_drop_temporary_table', " +
	"'Com_show_status', 'Com_show_warnings', 'Com_admin_commands')"

// ends returns what showEnds tells, to be compared.
func (c *conn) ends(ctx context.Context) (_ string, err error) {
	rows, err := c.asks.QueryContext(ctx, showEnds)
	if err != nil {
		return "", hide(err)
	}
	defer func() { err = hide(errs.Joined(err, rows.Close())) }()
	var all []string
	for rows.Next() {
		var name, count string
		if err := rows.Scan(&name, &count); err != nil {
			return "", err
		}
		all = append(all, name+"="+count)
	}
	if len(all) == 0 {
		return "", errs.Joined(errors.New("the server does not count its statements"), rows.Err())
	}
	slices.Sort(all)
	return strings.Join(all, " "), rows.Err()
}

// endedError tells that a statement has ended the transaction it was part of.
type endedError struct {
	what string // has done that
	how  string
}

func (e *endedError) Error() string {
	return "sqlscope: " + e.what + " " + e.how + ", and nothing can undo that: " +
		"run such statements outside of a scope, on the pool that Engine returns"
}

const (
	hasCommitted = "has committed the transaction, with all that was done in it before"
	hasEnded     = "has committed the transaction, or rolled it back: what was done in it before may be stored"
	mayHaveEnded = "may have committed the transaction, with all that was done in it before, for the server could not be asked"
)

// lookTimeout is for a question that belongs to a statement whose context may
// have ended.
const lookTimeout = 5 * time.Second

// before implements [watcher]: it calls the witness for a statement that could
// end the transaction.
func (c *conn) before(ctx context.Context, query string) error {
	if c.tx == nil {
		if c.engine.manual.Load() {
			return errManual
		}
		return nil
	}
	suspect, is := sqltext.Suspicious(query)
	if !is {
		return nil
	}
	if !suspect.Commits && c.witness.ends == "" {
		ends, err := c.ends(ctx)
		if err != nil {
			return fmt.Errorf("sqlscope: before the statement %s: asking what has been executed: %w", suspect.Word, err)
		}
		c.witness.ends = ends
	}
	if err := c.run(ctx, "SAVEPOINT "+mark); err != nil {
		return fmt.Errorf("sqlscope: before the statement %s: %w", suspect.Word, err)
	}
	c.witness.suspect, c.witness.called = suspect, true
	return nil
}

// after implements [watcher]: it looks whether the witness is still there.
func (c *conn) after(ctx context.Context, err error) error {
	if !c.witness.called {
		return err
	}
	c.witness.called = false
	what := "the statement " + c.witness.suspect.Word
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	gone := c.run(ctx, "RELEASE SAVEPOINT "+mark)
	switch {
	case gone == nil:
		return err
	case number(gone) != errNoSavepoint:
		return c.tell(what, mayHaveEnded, errs.Joined(err, gone))
	case c.witness.suspect.Commits:
		return c.tell(what, hasCommitted, err)
	case err != nil:
		ends, asking := c.ends(ctx)
		if asking != nil {
			return c.tell(what, mayHaveEnded, errs.Joined(err, asking))
		}
		if ends == c.witness.ends {
			return err // the server has undone the transaction, and nothing is stored
		}
	}
	return c.tell(what, hasEnded, err)
}

// tell notes that the transaction has ended, and returns the error to report.
func (c *conn) tell(what, how string, err error) error {
	c.ended = &endedError{what, how}
	if err != nil {
		return fmt.Errorf("%w: %w", err, c.ended)
	}
	return c.ended
}

func (*endedError) Unwrap() error { return driver.ErrEnded }

// Ended returns an error where a statement has ended the transaction.
func (c *conn) Ended() error {
	if c.witness.called && c.late == nil { // the core has closed the statement's rows
		if err := c.after(context.Background(), nil); err != nil {
			return err
		}
	}
	if c.ended != nil {
		return c.ended
	}
	return nil
}

// refuse is the answer to what would follow in a transaction that is no more.
func (c *conn) refuse() error {
	if err := c.lateError(); err != nil {
		return err
	}
	err := c.Ended()
	if c.ended != nil {
		return fmt.Errorf("%w: %w", err, driver.ErrNotSent)
	}
	return err
}
