package middlewaretest

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// errSecret is what no client may see.
var errSecret = errors.New("driver: secret detail")

// endings are the scenarios about how a request's work ends.
var endings = []Scenario{
	{Name: "work is committed before the answer", run: func(s *stage) {
		s.commitFirst(func(Exchange) error { return nil })
	}},
	{Name: "all work of a request is one transaction", run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			if err := errors.Join(s.store(x.Context(), "a"), s.store(x.Context(), "b")); err != nil {
				return err
			}
			return x.Write("done")
		}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "done")
		s.wantRows("a", "b")
		s.wantLog("acquire", "begin", "exec", "exec", "commit", "release")
	}},
	{Name: "a request that touches no database does no I/O", run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error { return x.Write("hello") }))
		s.wantStatus(answer, 200)
		s.wantBody(body, "hello")
		s.wantLog()
	}},
	{Name: "a failed commit is a 500 that tells nothing", run: func(s *stage) { s.failCommit(driver.RolledBack, 10) }},
	{Name: "a commit with an unknown outcome is a 500 too", run: func(s *stage) { s.failCommit(driver.Unknown, 10) }},
	{Name: "a failed commit takes a larger answer back too", run: func(s *stage) { s.failCommit(driver.RolledBack, 32<<10) }},
	{Name: "a failed commit takes the handler's headers back", Needs: []Ability{Headers}, run: func(s *stage) {
		s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
		answer, _ := s.call(s.serve(func(x Exchange) error {
			x.SetHeader("X-Handler", "was here")
			return s.store(x.Context(), "row")
		}))
		s.wantStatus(answer, 500)
		if got := answer.Header("X-Handler"); got != "" {
			s.Errorf("the client got the handler's header %q", got)
		}
	}},
	{Name: "status 400 rolls back", run: func(s *stage) { s.answerWith(400, false) }},
	{Name: "status 404 rolls back", run: func(s *stage) { s.answerWith(404, false) }},
	{Name: "status 500 rolls back", run: func(s *stage) { s.answerWith(500, false) }},
	{Name: "status 503 rolls back", run: func(s *stage) { s.answerWith(503, false) }},
	{Name: "status 303 commits", run: func(s *stage) { s.answerWith(303, true) }},
	{Name: "a returned error rolls back", run: func(s *stage) {
		answer, _ := s.call(s.serve(func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "row"), errors.New("no"))
		}))
		s.wantStatus(answer, 500)
		s.wantRows()
		s.wantLog("acquire", "begin", "exec", "rollback", "release")
	}},
	{Name: "the client is not told what a returned error says", run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "row"), errSecret)
		}))
		s.wantStatus(answer, 500)
		if strings.Contains(body, "secret") {
			s.Errorf("the client was told %q", body)
		}
	}},
	{Name: "a failed rollback is reported", run: func(s *stage) {
		s.fake.Inject("rollback", drivertest.Fault{Err: errSecret})
		answer, body := s.call(s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "row"); err != nil {
				return err
			}
			x.Status(409)
			return x.Write("conflict")
		}))
		s.wantStatus(answer, 409)
		s.wantBody(body, "conflict")
		s.wantErrors(errSecret)
	}},
	{Name: "a panic rolls back and goes on to the recovery", Needs: []Ability{Recover}, run: func(s *stage) {
		value, calls := &struct{ int }{42}, 0
		url := s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "row"); err != nil {
				return err
			}
			if err := x.Write("half"); err != nil {
				return err
			}
			if calls++; calls == 1 {
				panicsFarDown(value)
			}
			return nil
		})
		answer, body := s.call(url)
		s.wantStatus(answer, 500)
		if strings.Contains(body, "half") {
			s.Errorf("the client got what was held: %q", body)
		}
		s.wantRows()
		s.wantRecovered(value)
		s.wantIdle()
		answer, _ = s.call(url) // the server lives on
		s.wantStatus(answer, 200)
		s.wantRows("row")
		s.wantErrors()
	}},
	{Name: "a rollback that fails under a panic is reported", Needs: []Ability{Recover}, run: func(s *stage) {
		s.fake.Inject("rollback", drivertest.Fault{Err: errSecret})
		answer, _ := s.call(s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "row"); err != nil {
				return err
			}
			panic("on purpose")
		}))
		s.wantStatus(answer, 500)
		s.wantRows()
		s.wantErrors(errSecret)
		s.wantIdle()
	}},
	{Name: "a handler that leaves by Goexit rolls back", Needs: []Ability{Goexit}, run: func(s *stage) {
		back := make(chan struct{})
		s.fake.Inject("release", drivertest.Fault{Entered: back})
		url := s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "row"); err != nil {
				return err
			}
			runtime.Goexit()
			return nil
		})
		if answer, err := s.framework.Call(s.ctx, url, http.NoBody); err == nil {
			_ = answer.Body.Close()
		}
		s.wait(back, "the connection comes back")
		s.wantRows()
	}},
	{Name: "a dry run rolls back and answers as it would", run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			if err := errors.Join(s.store(x.Context(), "row"), dbscope.MarkRollback(x.Context())); err != nil {
				return err
			}
			x.Status(201)
			return x.Write("would do")
		}))
		s.wantStatus(answer, 201)
		s.wantBody(body, "would do")
		s.wantRows()
		s.wantErrors()
	}},
	{Name: "a dry run within a hook is not the request's", run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "row"),
				dbscope.BeforeCommit(x.Context(), func(ctx context.Context) error {
					return dbscope.Run(ctx, dbscope.MarkRollback) // an error, which prevents the commit
				}),
				x.Write("stored"))
		}))
		s.wantStatus(answer, 500)
		if strings.Contains(body, "stored") {
			s.Errorf("the client got %q", body)
		}
		s.wantRows()
		s.wantErrors(dbscope.ErrRollbackOnly)
	}},
	{Name: "two databases are committed in the order of first use", run: func(s *stage) {
		second := s.fake.DB()
		answer, _ := s.call(s.serve(func(x Exchange) error {
			return errors.Join(store(x.Context(), second, "b"), s.store(x.Context(), "a"))
		}))
		s.wantStatus(answer, 200)
		s.wantRows("b", "a")
	}},
	{Name: "the second of two databases fails", run: func(s *stage) {
		other := drivertest.NewFake()
		second, third := other.DB(dbscope.Name("second")), other.DB(dbscope.Name("third"))
		other.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
		answer, _ := s.call(s.serve(func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "a"), store(x.Context(), second, "b"), store(x.Context(), third, "c"))
		}))
		s.wantStatus(answer, 500)
		s.wantRows("a")
		if rows := other.Rows(); len(rows) > 0 {
			s.Errorf("rows %q are stored in the databases that failed", rows)
		}
		s.wantErrors(errSecret)
		s.mu.Lock()
		defer s.mu.Unlock()
		var failure *dbscope.CommitError
		if !errors.As(errors.Join(s.errs...), &failure) || len(failure.Outcomes) != 3 ||
			failure.Outcomes[0].State != driver.Committed || failure.Outcomes[1].State != driver.RolledBack ||
			failure.Outcomes[2].State != driver.RolledBack {
			s.Errorf("the error does not tell what became of each database: %v", s.errs)
		}
	}},
	{Name: "a client that is gone does not undo what succeeded", Needs: []Ability{Cancel}, run: func(s *stage) {
		s.leave(nil)
		s.wantRows("row")
		s.wantLog("acquire", "begin", "exec", "commit", "release")
	}},
	{Name: "a handler that gives up when the client is gone is undone", Needs: []Ability{Cancel}, run: func(s *stage) {
		s.leave(context.Canceled)
		s.wantRows()
		s.wantLog("acquire", "begin", "exec", "rollback", "release")
	}},
}

//go:noinline
func panicsFarDown(value any) { panic(value) }

// wantRecovered checks what the recovery outside got, the stack included.
func (s *stage) wantRecovered(value any) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recovered) != 1 || s.recovered[0] != value {
		s.Errorf("the recovery outside saw %v, want the value of the panic", s.recovered)
	}
	if !strings.Contains(s.stack, "panicsFarDown") {
		s.Errorf("the stack has lost the place of the panic:\n%s", s.stack)
	}
}

// commitFirst checks that nothing reaches the client before the commit. The handler
// calls after when it has written its answer.
func (s *stage) commitFirst(after func(Exchange) error) {
	s.Helper()
	reached, release := make(chan struct{}), make(chan struct{})
	s.fake.Inject("commit", drivertest.Fault{Entered: reached, Until: release})
	url := s.serve(func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		x.Status(201)
		// More than servers are wont to buffer, less than is held.
		return errors.Join(x.Write(strings.Repeat("x", 32<<10)), after(x))
	})
	answered := make(chan struct{})
	var answer *Answer
	var err error
	go func() {
		defer close(answered)
		answer, err = s.framework.Call(s.ctx, url, http.NoBody)
	}()
	select {
	case <-reached:
		select {
		case <-answered: // by what was sent ahead, which takes its time
			s.Errorf("the client was answered before the commit")
		case <-time.After(20 * time.Millisecond):
		}
	case <-answered:
		s.Errorf("the client was answered before the commit")
	case <-s.ctx.Done():
		s.Errorf("there was no commit")
	}
	close(release)
	<-answered
	if err != nil {
		s.Fatalf("the client got no answer: %v", err)
	}
	s.wantRows("row")
	s.wantStatus(answer, 201)
	s.wantBody(s.read(answer), strings.Repeat("x", 32<<10))
	s.wantErrors()
}

// failCommit has a commit fail under an answer of some size.
func (s *stage) failCommit(outcome driver.Outcome, size int) {
	s.Helper()
	s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: outcome})
	answer, body := s.call(s.serve(func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		return x.Write(strings.Repeat("stored ", size/len("stored ")))
	}))
	s.wantStatus(answer, 500)
	if strings.Contains(body, "secret") || strings.Contains(body, "stored") {
		s.Errorf("the client got %q", body)
	}
	s.wantRows()
	s.wantErrors(errSecret)
}

// answerWith has a handler store a row and answer with a status.
func (s *stage) answerWith(status int, commit bool) {
	s.Helper()
	answer, body := s.call(s.serve(func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		x.Status(status)
		return x.Write("the handler's words")
	}))
	s.wantStatus(answer, status)
	s.wantBody(body, "the handler's words")
	if commit {
		s.wantRows("row")
	} else {
		s.wantRows()
	}
	s.wantErrors()
}

// leave has a client go away while the handler, having stored a row, waits
// for that and then returns err.
func (s *stage) leave(err error) {
	s.Helper()
	back, stored := make(chan struct{}), make(chan struct{})
	s.fake.Inject("release", drivertest.Fault{Entered: back})
	url := s.serve(func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		close(stored)
		<-x.Context().Done()
		return err
	})
	ctx, goAway := context.WithCancel(s.ctx)
	defer goAway()
	go func() {
		select {
		case <-stored:
		case <-s.ctx.Done():
		}
		goAway()
	}()
	if answer, err := s.framework.Call(ctx, url, http.NoBody); err == nil {
		_ = answer.Body.Close()
	}
	s.wait(back, "the connection comes back")
}
