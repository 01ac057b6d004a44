package middleware_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

const (
	notFound = 5
	aborted  = 10
	internal = 13
)

var (
	errInjected = errors.New("driver: secret detail")
	errNotFound = errors.New("not found")
)

// coded is an error with a code of its own.
type coded int

func (coded) Error() string { return "so it is" }

func codeOf(err error) (code int, own bool) {
	if c := coded(0); errors.As(err, &c) {
		return int(c), true
	}
	return notFound, errors.Is(err, errNotFound)
}

// call is a unit of the call "place" over a fake database.
type call struct {
	*middleware.Unit[string]
	t    *testing.T
	fake *drivertest.Fake
	db   *dbscope.DB[*drivertest.Tx]
	errs []error
}

func start(t *testing.T, options ...func(*middleware.Policy[string])) *call {
	fake := drivertest.NewFake()
	c := &call{t: t, fake: fake, db: fake.DB()}
	rpc := middleware.NewRPC(
		func(what string, err error) {
			if what != "place" {
				t.Errorf("an error of the call %q", what)
			}
			c.errs = append(c.errs, err)
		},
		codeOf, func(f *middleware.Failure) error { return f }, options)
	var scoped bool
	if c.Unit, scoped = rpc.Start(t.Context(), "place"); !scoped {
		t.Fatal("the call has no unit")
	}
	return c
}

func (c *call) store(row string) {
	c.t.Helper()
	if err := drivertest.Exec(c.Context, c.db, row); err != nil {
		c.t.Errorf("storing %q: %v", row, err)
	}
}

func (c *call) want(rows []string, errs ...error) {
	c.t.Helper()
	if got := c.fake.Rows(); !slices.Equal(got, rows) {
		c.t.Errorf("rows %q are stored, want %q", got, rows)
	}
	if !slices.EqualFunc(c.errs, errs, errors.Is) {
		c.t.Errorf("the error hook was told %q, want %q", c.errs, errs)
	}
	if n := c.fake.Open(); n != 0 {
		c.t.Errorf("%d connections are not back", n)
	}
}

// fails checks an error for a client.
func (c *call) fails(err error, code int) {
	c.t.Helper()
	var failure *middleware.Failure
	if !errors.As(err, &failure) || failure.Code != code || strings.Contains(err.Error(), "secret") {
		c.t.Errorf("the error is %#v, want code %d", err, code)
	}
}

func TestAHookOfTheCommitCannotSendTheFirstMessage(t *testing.T) {
	for name, register := range map[string]func(context.Context, func(context.Context) error) error{
		"before": dbscope.BeforeCommit, "after": dbscope.AfterCommit,
	} {
		c := start(t)
		c.store("row")
		var sent error
		if err := register(c.Context, func(context.Context) error {
			sent = c.Sending()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.Sending(); err != nil {
			t.Error(err)
		}
		if sent == nil {
			t.Errorf("%s the commit a hook could send a message", name)
		}
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
		c.want([]string{"row"})
	}
}

func TestAHookThatPanicsAtTheFirstMessageFailsTheCallOfAHandlerThatRecovers(t *testing.T) {
	c := start(t)
	c.store("row")
	if err := dbscope.BeforeCommit(c.Context, func(context.Context) error { panic("no") }); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = c.Sending()
		t.Error("the panic was swallowed")
	}()
	if err := c.Sending(); err == nil {
		t.Error("a message could be sent")
	}
	c.fails(c.Finish(nil), internal)
	c.want(nil)
}

func TestAHookThatPanicsAtTheEndIsAbandoned(t *testing.T) {
	c := start(t)
	c.store("row")
	if err := dbscope.BeforeCommit(c.Context, func(context.Context) error { panic("no") }); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		defer c.Abandon()
		_ = c.Finish(nil)
	}()
	c.want(nil)
}

func TestAnErrorOfABeforeHookIsNotForTheClient(t *testing.T) {
	c := start(t)
	c.store("row")
	if err := dbscope.BeforeCommit(c.Context, func(context.Context) error { return errInjected }); err != nil {
		t.Fatal(err)
	}
	c.fails(c.Finish(nil), internal)
	c.want(nil, errInjected)
}

func TestNothingIsSentAfterTheEnd(t *testing.T) {
	for _, end := range []func(*call){
		func(c *call) { _ = c.Finish(nil) },
		func(c *call) { c.Abandon() },
	} {
		c := start(t)
		c.store("row")
		end(c)
		if err := c.Sending(); err == nil {
			t.Error("a message could be sent")
		}
		c.Abandon()
		if err := drivertest.Exec(c.Context, c.db, "late"); !errors.Is(err, dbscope.ErrScopeEnded) {
			t.Errorf("a statement returned %v", err)
		}
	}
}

func TestTheFirstMessageIsRefusedWhileAStatementRuns(t *testing.T) {
	c := start(t)
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c.fake.Inject("exec", drivertest.Fault{Entered: entered, Until: release})
	go func() {
		defer close(done)
		c.store("row")
	}()
	<-entered
	if err := c.Sending(); !errors.Is(err, dbscope.ErrSessionBusy) {
		t.Errorf("Sending returned %v", err)
	}
	close(release)
	<-done
	c.fails(c.Finish(nil), internal)
	c.want(nil, dbscope.ErrSessionBusy)
}

func TestRollbacksThatFailAreReported(t *testing.T) {
	c := start(t)
	c.store("row")
	c.fake.Inject("rollback", drivertest.Fault{Err: errInjected})
	if err := c.Finish(errNotFound); !errors.Is(err, errNotFound) {
		t.Error(err)
	}
	c.want(nil, errInjected)

	c = start(t)
	c.store("row")
	c.fake.Inject("rollback", drivertest.Fault{Err: errInjected})
	c.Abandon()
	c.want(nil, errInjected)
}

// Also where the code is the same.
func TestTheTextOfAFailureTellsWhatBecameOfTheWork(t *testing.T) {
	for text, fault := range map[string]drivertest.Fault{
		"internal error": {Err: errInjected, Outcome: driver.RolledBack},
		"it is not known whether the work was done":                          {Err: drivertest.ErrTransient, Outcome: driver.Unknown},
		"the work was in conflict with other work and was undone: try again": {Err: drivertest.ErrTransient, Outcome: driver.RolledBack},
	} {
		c := start(t)
		c.store("row")
		c.fake.Inject("commit", fault)
		err := c.Finish(nil)
		code := internal
		if strings.HasSuffix(text, "try again") {
			code = aborted
		}
		c.fails(err, code)
		if err.Error() != text {
			t.Errorf("the client is told %q, want %q", err, text)
		}
		c.want(nil, fault.Err)
	}
}

func TestOneOfSeveralDatabasesWithAnUnknownOutcomeMakesTheCallUnknown(t *testing.T) {
	c := start(t)
	other := drivertest.NewFake()
	second := other.DB()
	c.store("row")
	if err := drivertest.Exec(c.Context, second, "other row"); err != nil {
		t.Fatal(err)
	}
	other.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.Unknown})
	err := c.Finish(nil)
	c.fails(err, internal)
	if !strings.Contains(err.Error(), "not known") {
		t.Errorf("the client is told %q", err)
	}
	c.want([]string{"row"}, errInjected)
}

func TestAConflictInOneOfSeveralDatabasesIsNotWorthAnotherCallWhenAnotherIsCommitted(t *testing.T) {
	c := start(t)
	other := drivertest.NewFake()
	second := other.DB()
	c.store("row")
	if err := drivertest.Exec(c.Context, second, "other row"); err != nil {
		t.Fatal(err)
	}
	other.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	c.fails(c.Finish(nil), internal)
	c.want([]string{"row"}, drivertest.ErrTransient)
}

// They run while the handler does, which knows nothing of the middleware.
func TestErrorsOfAfterHooksOfAnEarlyCommitAreReported(t *testing.T) {
	c := start(t)
	c.store("row")
	if err := c.db.AfterCommit(c.Context, func(context.Context) error { return errInjected }); err != nil {
		t.Fatal(err)
	}
	if err := c.db.Commit(c.Context); err != nil {
		t.Error(err)
	}
	if err := c.Finish(errNotFound); !errors.Is(err, errNotFound) {
		t.Error(err)
	}
	c.want([]string{"row"}, errInjected)
}

// The core finds the scope's own then, and so the call.
func TestErrorsOfAfterHooksAreReportedAlsoWhereTheHandlerEndsTheScopeWithAForeignContext(t *testing.T) {
	c := start(t)
	c.store("row")
	if err := dbscope.AfterCommit(c.Context, func(context.Context) error { return errInjected }); err != nil {
		t.Fatal(err)
	}
	scope, _ := dbscope.FromContext(c.Context)
	if err := scope.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	c.want([]string{"row"}, errInjected)
}

func TestAUsersOwnHookReportIsKept(t *testing.T) {
	var reported error
	c := start(t, func(p *middleware.Policy[string]) {
		p.Options = append(p.Options, dbscope.OnHookError(func(_ context.Context, err error) { reported = err }))
	})
	c.store("row")
	if err := dbscope.AfterCommit(c.Context, func(context.Context) error { return errInjected }); err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if !errors.Is(reported, errInjected) {
		t.Errorf("reported is %v", reported)
	}
	c.want([]string{"row"})
}

// A goroutine that sends while its handler returns is wrong, and harms nobody.
func TestAGoroutineThatTheHandlerLeftBehindDoesNotOpenTheCallAgain(t *testing.T) {
	c := start(t)
	c.store("row")
	entered, release := make(chan struct{}), make(chan struct{})
	c.fake.Inject("commit", drivertest.Fault{Entered: entered, Until: release})
	var both sync.WaitGroup
	both.Go(func() { _ = c.Sending() })
	<-entered
	both.Go(func() { c.fails(c.Finish(nil), internal) })
	for err := c.Sending(); !strings.Contains(err.Error(), "the handler had returned"); err = c.Sending() {
		runtime.Gosched()
	}
	close(release)
	both.Wait()
	if err := c.Sending(); err == nil {
		t.Error("a message could be sent")
	}
	c.want([]string{"row"})
}

func readOnly(p *middleware.Policy[string]) { p.ReadOnly = func(string) bool { return true } }

func (c *call) query() *drivertest.Rows {
	c.t.Helper()
	tx, err := c.db.Session(c.Context)
	if err != nil {
		c.t.Fatal(err)
	}
	rows, err := tx.Query(c.Context, "all")
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

func (c *call) send() {
	c.t.Helper()
	if err := c.Sending(); err != nil {
		c.t.Errorf("Sending returned %v", err)
	}
}

func (c *call) wantOpen(want int) {
	c.t.Helper()
	if n := c.fake.Open(); n != want {
		c.t.Errorf("%d connections are out of the pool, want %d", n, want)
	}
}

func TestAReadOnlyCallKeepsAConnectionFromMessageToMessageOnlyWhileRowsAreOpen(t *testing.T) {
	c := start(t, readOnly)
	for range 3 {
		rows := c.query()
		c.send()
		c.wantOpen(1)
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
		c.send()
		c.wantOpen(0)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	c.want(nil)
}

func TestACallThatCommitsAfterItsFirstMessageKeepsNoConnection(t *testing.T) {
	c := start(t)
	c.store("first")
	c.send()
	c.store("second")
	if err := c.db.Commit(c.Context); err != nil {
		t.Error(err)
	}
	c.wantOpen(0)
	c.store("third")
	c.send()
	c.wantOpen(1) // it is one transaction until the handler returns
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	c.want([]string{"first", "second", "third"})
}

func TestAReadOnlyCallWhoseTransactionFailedSendsNoFurtherMessage(t *testing.T) {
	for name, before := range map[string]func(*call){
		"the first": func(*call) {},
		"a later":   (*call).send,
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, readOnly)
			before(c)
			c.fake.Inject("exec", drivertest.Fault{Err: errInjected, Fate: driver.Aborted})
			_ = drivertest.Exec(c.Context, c.db, "read") // the handler overlooks the error
			for range 2 {
				c.fails(c.Sending(), internal)
			}
			c.fails(c.Finish(nil), internal)
			c.want(nil, errInjected)
		})
	}
}
