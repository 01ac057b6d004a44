package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// A server that hangs on the first question, which a real one does not do on
// demand, holds up only those whose contexts let it.
func TestAPoolThatHangsWhenItIsFirstUsedHoldsNobodyBeyondTheirContext(t *testing.T) {
	asked := make(chan struct{}, 2)
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return sql.OpenDB(hanging{asked}), nil })
	patient, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		first <- dbscope.Run(patient, func(ctx context.Context) error { return insert(ctx, db, 1) })
	}()
	<-asked
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	second := make(chan error, 1)
	go func() {
		second <- dbscope.Run(ctx, func(ctx context.Context) error { return insert(ctx, db, 2) })
	}()
	select {
	case err := <-second:
		is(t, err, context.DeadlineExceeded)
	case <-time.After(time.Minute):
		t.Error("the second unit waits for the first one's context")
	}
	cancel()
	is(t, <-first, context.Canceled)
	ok(t, db.Close())
}

// hanging is a connection, and its connector, that answers nothing.
type hanging struct{ asked chan struct{} }

var errUnused = errors.New("not to be called")

func (h hanging) Connect(context.Context) (sqldriver.Conn, error) { return h, nil }
func (h hanging) Driver() sqldriver.Driver                        { return nil }
func (h hanging) Prepare(string) (sqldriver.Stmt, error)          { return nil, errUnused }
func (h hanging) Begin() (sqldriver.Tx, error)                    { return nil, errUnused }
func (h hanging) Close() error                                    { return nil }

func (h hanging) Ping(ctx context.Context) error { return ctx.Err() }

func (h hanging) QueryContext(ctx context.Context, _ string, _ []sqldriver.NamedValue) (sqldriver.Rows, error) {
	select {
	case h.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAConnectionThatIsLostOnTheFirstQuestionSaysWhy(t *testing.T) {
	dsn := pgtest.Shared(t).CreateDatabase(t)
	u, err := url.Parse(dsn)
	ok(t, err)
	proxy := wire.Start(t, u.Host)
	db := sqlscope.Open("pgx", proxy.DSN(dsn))
	t.Cleanup(func() { ok(t, db.Close()) })
	proxy.Cut(wire.CutAt{Message: "Query", Containing: "version"})
	proxy.Cut(wire.CutAt{Message: "Parse", Containing: "version"})
	err = dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, db, 1) })
	if err == nil || strings.HasSuffix(err.Error(), "taking a connection: "+sql.ErrConnDone.Error()) {
		t.Errorf("the error is %v", err)
	}
}
