package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware"
)

// small is a middleware as one would write it, for a framework whose requests are
// strings and whose handlers return the code of their answer.
func small(ctx context.Context, policy *middleware.Policy[string], request string, handler func(context.Context) int) error {
	if !policy.Scoped(ctx, request) {
		handler(ctx)
		return nil
	}
	ctx, scope := policy.Begin(ctx, request)
	defer func() { policy.Report(request, scope.End(ctx)) }()
	code := handler(ctx)
	return policy.Decide(ctx, scope, request, code)
}

// logged returns what the function logs.
func logged(t *testing.T, f func()) string {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	f()
	return log.String()
}

func TestTheZeroPolicyCommitsWhatTheCodeCallsASuccess(t *testing.T) {
	for code, commits := range map[int]bool{
		0: true, 100: true, 101: true, 200: true, 204: true, 303: true, 399: true,
		400: false, 404: false, 500: false, 599: false, 999: false,
		1: false, 2: false, 16: false, 17: false, 99: false, -1: false, -200: false,
	} {
		fake := drivertest.NewFake()
		db := fake.DB()
		log := logged(t, func() {
			err := small(t.Context(), &middleware.Policy[string]{}, "place", func(ctx context.Context) int {
				if err := drivertest.Exec(ctx, db, "row"); err != nil {
					t.Error(err)
				}
				return code
			})
			if err != nil {
				t.Errorf("code %d: %v", code, err)
			}
		})
		if stored := slices.Equal(fake.Rows(), []string{"row"}); stored != commits || log != "" || fake.Open() > 0 {
			t.Errorf("code %d: stored is %q, and the log has %q", code, fake.Rows(), log)
		}
	}
}

func TestTheZeroPolicyGivesEachRequestAScopeThatMayWrite(t *testing.T) {
	policy := &middleware.Policy[string]{}
	err := small(t.Context(), policy, "place", func(ctx context.Context) int {
		scope, scoped := middleware.ScopeOf(ctx)
		if !scoped || scope.ReadOnly() || policy.Shows(errInjected) || policy.NewToken(ctx) != "" {
			t.Errorf("there is a scope: %t", scoped)
		}
		return 0
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheZeroPolicyReturnsTheErrorOfACommit(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	err := small(t.Context(), &middleware.Policy[string]{}, "place", func(ctx context.Context) int {
		if err := drivertest.Exec(ctx, db, "row"); err != nil {
			t.Error(err)
		}
		return 200
	})
	if !errors.Is(err, errInjected) {
		t.Errorf("the commit returned %v", err)
	}
}

func TestTheZeroPolicyLogsWhatTheHandlerDoesNotGet(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("rollback", drivertest.Fault{Err: errInjected})
	log := logged(t, func() {
		_ = small(t.Context(), &middleware.Policy[string]{}, "place", func(ctx context.Context) int {
			if err := drivertest.Exec(ctx, db, "row"); err != nil {
				t.Error(err)
			}
			return 404
		})
	})
	if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, errInjected.Error()) || strings.Count(log, "\n") != 1 {
		t.Errorf("the log has %q", log)
	}
}

func TestAnRPCWhoseOptionsTakeDefaultsAwayHasThem(t *testing.T) {
	for name, take := range map[string]func(*middleware.Policy[string]){
		"Commit": func(p *middleware.Policy[string]) { p.Commit = nil }, "OnError": func(p *middleware.Policy[string]) { p.OnError = nil },
	} {
		t.Run(name, func(t *testing.T) {
			for code, rows := range map[int][]string{0: {"row"}, 200: nil, notFound: nil} {
				c := start(t, take)
				c.store("row")
				c.fake.Inject("rollback", drivertest.Fault{Err: errInjected})
				var err error
				if code != 0 {
					err = coded(code)
				}
				_ = c.Finish(err)
				errs := []error{errInjected}
				if code == 0 {
					errs = nil
				}
				c.want(rows, errs...)
			}
		})
	}
}
