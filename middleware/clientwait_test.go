package middleware_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

// slow is a unit whose client takes its time; it keeps what is done for that.
type slow struct {
	middleware.ClientWait
	t     *testing.T
	ctx   context.Context
	scope middleware.Scope
	fake  *drivertest.Fake
	db    *dbscope.DB[*drivertest.Tx]

	done   []string
	err    error
	panics any // with which Report does
}

const limit = 10 * time.Second

// onSlow runs a test with time of its own.
func onSlow(t *testing.T, test func(t *testing.T, s *slow)) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{t: t, fake: drivertest.NewFake()}
		s.db = s.fake.DB()
		policy := middleware.Policy[string]{ClientTimeout: limit}
		s.ctx, s.scope = policy.Begin(t.Context(), "")
		policy.WaitForClient(&s.ClientWait, s.scope, s)
		test(t, s)
		_ = s.scope.End(s.ctx)
	})
}

func (s *slow) Fail(error) { s.done = append(s.done, "fail") }

func (s *slow) Wake(receiving, sending bool) {
	if s.fake.Open() > 0 {
		s.t.Error("the connection was not back yet")
	}
	s.done = append(s.done, "wake")
	if receiving {
		s.done = append(s.done, "the receiver")
	}
	if sending {
		s.done = append(s.done, "the sender")
	}
}

func (s *slow) Report(err error) {
	s.done, s.err = append(s.done, "report"), err
	if s.panics != nil {
		panic(s.panics)
	}
}

func (s *slow) store() {
	s.t.Helper()
	if err := drivertest.Exec(s.ctx, s.db, "row"); err != nil {
		s.t.Error(err)
	}
}

// wait is a call that takes the client so long.
func (s *slow) wait(d time.Duration) error {
	if err := s.Enter(false); err != nil {
		return err
	}
	time.Sleep(d)
	return s.Leave(false)
}

func (s *slow) wantPassed(err error) {
	s.t.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "ClientTimeout") || !errors.Is(s.err, os.ErrDeadlineExceeded) {
		s.t.Errorf("the call returned %v, and reported was %v", err, s.err)
	}
	if _, err := s.db.Session(s.ctx); !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("the next statement would return %v", err)
	}
}

func (s *slow) wantOpen(err error) {
	s.t.Helper()
	if err != nil || s.err != nil || s.End() != nil {
		s.t.Errorf("the limit was passed: %v, %v", err, s.err)
	}
	if err := s.scope.Commit(s.ctx); err != nil {
		s.t.Error(err)
	}
}

func TestAConnectionDoesNotWaitLongerForAClientThanTheLimit(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		s.store()
		began := time.Now()
		s.wantPassed(s.wait(time.Hour))
		if took := time.Since(began); took != time.Hour { // nothing here can wake it
			s.t.Errorf("it took %v", took)
		}
		if got := strings.Join(s.done, " "); got != "fail wake the receiver report" {
			s.t.Errorf("done was %s", got)
		}
		began = time.Now()
		s.wantPassed(s.wait(time.Hour))
		if took := time.Since(began); took != 0 || s.End() == nil {
			s.t.Errorf("a later call took %v", took)
		}
	})
}

func TestTheTimesThatAConnectionWaitsForAClientAddUp(t *testing.T) {
	onSlow(t, func(t *testing.T, s *slow) {
		s.store()
		for n := range 9 {
			if err := s.wait(time.Second); err != nil {
				t.Errorf("call %d: %v", n, err)
			}
			time.Sleep(time.Minute) // the handler's own time
			s.store()
		}
		s.wantPassed(s.wait(time.Second))
		if got := strings.Join(s.done, " "); !strings.HasPrefix(got, "fail wake") {
			s.t.Errorf("done was %s", got)
		}
	})
}

func TestTheTimeBeginsAnewWhenAllConnectionsAreBack(t *testing.T) {
	onSlow(t, func(t *testing.T, s *slow) {
		for range 100 {
			s.store()
			if err := s.wait(9 * time.Second); err != nil {
				t.Fatal(err)
			}
			if err := s.scope.Commit(s.ctx); err != nil {
				t.Error(err)
			}
		}
		s.wantOpen(nil)
	})
}

func TestAClientMayTakeItsTimeWhileNoConnectionIsHeld(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		err := s.wait(time.Hour)
		s.store()
		s.wantOpen(errors.Join(err, s.scope.Commit(s.ctx), s.wait(time.Hour)))
	})
}

// As in a handler whose goroutine receives ahead.
func TestAConnectionThatIsTakenWhileACallIsBlockedWaitsAsWell(t *testing.T) {
	onSlow(t, func(t *testing.T, s *slow) {
		received := make(chan error)
		go func() { received <- s.wait(time.Hour) }()
		time.Sleep(time.Minute)
		s.store()
		time.Sleep(limit + time.Second)
		synctest.Wait()
		if s.err == nil {
			t.Error("the limit was not passed")
		}
		s.wantPassed(<-received)
	})
}

func TestTheTimeOfAStatementIsNotTheClients(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		received := make(chan error)
		go func() { received <- s.wait(time.Hour) }()
		synctest.Wait()
		until := make(chan struct{})
		s.fake.Inject("exec", drivertest.Fault{Until: until})
		time.AfterFunc(time.Minute, func() { close(until) })
		s.store()
		time.Sleep(limit / 2)
		err := s.scope.Commit(s.ctx)
		s.wantOpen(errors.Join(err, <-received))
	})
}

func TestAUnitBegunInsideWaitsForTheClientOfTheOneAroundIt(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		err := dbscope.Run(s.ctx, func(ctx context.Context) error {
			return errors.Join(drivertest.Exec(ctx, s.db, "row"), s.wait(time.Hour))
		})
		s.wantPassed(err)
		if rows := s.fake.Rows(); len(rows) > 0 || s.fake.Open() > 0 {
			s.t.Errorf("%q is stored", rows)
		}
	})
}

func TestReceiverAndSenderAreBothWoken(t *testing.T) {
	onSlow(t, func(t *testing.T, s *slow) {
		s.store()
		received := make(chan error)
		go func() { received <- s.wait(time.Hour) }()
		if err := s.Enter(true); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		s.wantPassed(s.Leave(true))
		s.wantPassed(<-received)
		if got := strings.Join(s.done, " "); got != "fail wake the receiver the sender report" {
			t.Errorf("done was %s", got)
		}
	})
}

func TestAReportThatPanicsDoesSoInTheHandler(t *testing.T) {
	onSlow(t, func(t *testing.T, s *slow) {
		s.panics = "no"
		s.store()
		func() {
			defer func() {
				if v := recover(); v != "no" {
					t.Errorf("the handler panicked with %v", v)
				}
			}()
			_ = s.wait(time.Hour)
		}()
		if s.End() == nil { // and only once
			t.Error("the limit was not passed")
		}
	})
}

func TestARollbackThatFailsIsReportedWithTheLimit(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		s.store()
		s.fake.Inject("rollback", drivertest.Fault{Err: errInjected})
		s.wantPassed(s.wait(time.Hour))
		if !errors.Is(s.err, errInjected) {
			s.t.Errorf("reported was %v", s.err)
		}
	})
}

func TestAGoroutineThatTheHandlerLeftBehindHarmsNoUnit(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		s.store()
		received := make(chan error)
		go func() { received <- s.wait(time.Hour) }()
		synctest.Wait()
		err := s.End()
		time.Sleep(time.Minute) // a commit may take its time
		s.wantOpen(errors.Join(err, <-received))
	})
}

func TestTheLimitIsThirtySecondsUnlessThereIsToBeNone(t *testing.T) {
	for limit, passes := range map[time.Duration]bool{-1: false, 0: true} {
		synctest.Test(t, func(t *testing.T) {
			s := &slow{t: t, fake: drivertest.NewFake()}
			s.db = s.fake.DB()
			policy := middleware.Policy[string]{ClientTimeout: limit}
			ctx, scope := policy.Begin(t.Context(), "")
			s.ctx, s.scope = ctx, scope
			policy.WaitForClient(&s.ClientWait, s.scope, s)
			s.store()
			if err := s.wait(middleware.DefaultClientTimeout - time.Second); err != nil {
				t.Error(err)
			}
			if err := s.wait(2 * time.Second); (err != nil) != passes {
				t.Errorf("a limit of %v: %v", limit, err)
			}
			_ = s.scope.End(s.ctx)
		})
	}
}

func TestWhatACallWaitsForElsewhereIsNotTheClientsTime(t *testing.T) {
	onSlow(t, func(_ *testing.T, s *slow) {
		s.store()
		err := s.Enter(true)
		s.Pause(true, func() { time.Sleep(time.Hour) })
		time.Sleep(limit / 2)
		s.wantOpen(errors.Join(err, s.Leave(true)))
	})
}
