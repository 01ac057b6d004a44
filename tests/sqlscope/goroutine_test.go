package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// census is a driver that stores nothing and counts goroutines where a unit
// ends. Where it waits, it is for the end of the context that BEGIN got, as pgx
// does in COMMIT.
type census struct {
	ends  []int
	waits bool
	tx    context.Context
}

func (c *census) Connect(context.Context) (sqldriver.Conn, error) { return c, nil }
func (c *census) Driver() sqldriver.Driver                        { return nil }
func (c *census) Prepare(string) (sqldriver.Stmt, error)          { return nil, errors.ErrUnsupported }

func (c *census) Begin() (sqldriver.Tx, error) { return nil, errors.ErrUnsupported }
func (c *census) Close() error                 { return nil }

func (c *census) ExecContext(context.Context, string, []sqldriver.NamedValue) (sqldriver.Result, error) {
	return sqldriver.ResultNoRows, nil
}

func (c *census) BeginTx(ctx context.Context, _ sqldriver.TxOptions) (sqldriver.Tx, error) {
	c.tx = ctx
	return c, nil
}

func (c *census) Commit() error   { return c.end() }
func (c *census) Rollback() error { return c.end() }

func (c *census) end() error {
	c.ends = append(c.ends, runtime.NumGoroutine())
	if c.waits {
		<-c.tx.Done()
		return context.Cause(c.tx)
	}
	return nil
}

func (c *census) open(t *testing.T) *sqlscope.DB {
	d := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return sql.OpenDB(c), nil })
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

// Rule 5.
func TestTheEndOfAUnitStartsNoGoroutine(t *testing.T) {
	c := &census{}
	d := c.open(t)
	for _, end := range []error{nil, errStop} {
		before := 0
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.ExecContext(ctx, "INSERT")
			ok(t, err)
			before = runtime.NumGoroutine()
			return end
		}), end)
		if n := c.ends[len(c.ends)-1]; n > before {
			t.Errorf("%d goroutines before the end, %d in it", before, n)
		}
	}
}

func TestACommitThatTheDriverWouldWaitForEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &census{waits: true}
		d := c.open(t)
		start := time.Now()
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.ExecContext(ctx, "INSERT")
			return err
		}, dbscope.CommitTimeout(time.Minute))
		is(t, err, context.DeadlineExceeded)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}
