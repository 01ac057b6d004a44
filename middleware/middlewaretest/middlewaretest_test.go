package middlewaretest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// behaviour is a small middleware that can be made wrong in one way. It holds
// whole responses and knows no flush.
type behaviour struct {
	answerFirst   bool // commit after the response
	swallowPanic  bool // recover, and answer itself
	rethrow       bool // recover, and panic with something else
	losesStack    bool // recover, and panic with the value later
	alwaysCommit  bool // whatever the status
	neverRelease  bool
	alwaysBegin   bool // also where there is a scope
	tellErrors    bool // the driver's words to the client
	hideErrors    bool // from the error hook
	dryRunFails   bool
	anyDryRun     bool // is taken for the request's
	keepHeaders   bool // of the handler, on the failure page
	obeyCancel    bool // roll back when the client is gone
	commitPanics  bool // commit whatever comes, in a deferred function
	eagerRollback bool // roll back what has succeeded
	holdNothing   bool // and so let a flush out before the commit
}

func (b behaviour) middleware(site middlewaretest.Site) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := dbscope.FromContext(r.Context()); ok && !b.alwaysBegin {
				next.ServeHTTP(w, r)
				return
			}
			ctx, scope := dbscope.Begin(r.Context(), dbscope.OnHookError(func(_ context.Context, err error) {
				if !b.hideErrors {
					site.OnError(err)
				}
			}))
			if !b.neverRelease {
				defer func() {
					if err := scope.End(ctx); err != nil && !b.hideErrors {
						site.OnError(err)
					}
				}()
			}
			var panicked any
			func() {
				if b.losesStack {
					defer func() { panicked = recover() }()
				}
				b.serve(w, r.WithContext(ctx), scope, next, site.OnError)
			}()
			if panicked != nil {
				panic(panicked)
			}
		})
	}
}

func (b behaviour) serve(w http.ResponseWriter, r *http.Request, scope *dbscope.Scope, next http.Handler, onError func(error)) {
	ctx := r.Context()
	if b.swallowPanic || b.rethrow {
		defer func() {
			if v := recover(); v != nil {
				if b.rethrow {
					panic(fmt.Sprint("wrapped: ", v))
				}
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
	}
	if b.commitPanics {
		defer func() { _ = scope.Commit(ctx) }()
	}
	held := httptest.NewRecorder()
	if b.holdNothing {
		next.ServeHTTP(w, r)
	} else {
		next.ServeHTTP(held, r)
	}
	if b.answerFirst {
		send(w, held)
	}
	var err error
	switch {
	case b.eagerRollback, held.Code >= 400 && !b.alwaysCommit, b.obeyCancel && ctx.Err() != nil:
		if err := scope.Rollback(ctx); err != nil && !b.hideErrors {
			onError(err)
		}
	default:
		err = scope.Commit(ctx)
	}
	if dryRun(err) && !b.dryRunFails || b.anyDryRun && errors.Is(err, dbscope.ErrRollbackOnly) {
		err = nil
	}
	if err != nil && !b.hideErrors {
		onError(err)
	}
	if !b.neverRelease {
		_ = scope.End(ctx)
	}
	switch {
	case b.answerFirst, b.holdNothing:
	case err != nil:
		if b.keepHeaders {
			maps.Copy(w.Header(), held.Header())
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		text := "failed"
		if b.tellErrors {
			text = err.Error()
		}
		http.Error(w, text, http.StatusInternalServerError)
	default:
		send(w, held)
	}
}

func dryRun(err error) bool {
	return errors.Is(err, dbscope.ErrRollbackOnly) && !errors.Is(err, dbscope.ErrRolledBack)
}

func send(w http.ResponseWriter, held *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), held.Header())
	w.WriteHeader(held.Code)
	_, _ = w.Write(held.Body.Bytes())
}

func (b behaviour) framework() middlewaretest.Framework {
	f := middlewaretest.NetHTTP(b.middleware)
	f.Lacks[middlewaretest.Hijack] = "it holds whole responses"
	f.Lacks[middlewaretest.Failures] = "it has no policy"
	if !b.holdNothing {
		f.Lacks[middlewaretest.Flush] = "it holds whole responses"
	}
	for _, option := range []middlewaretest.Ability{
		middlewaretest.ClientTimeout, middlewaretest.BufferBody, middlewaretest.ReadOnly, middlewaretest.Unscoped,
		middlewaretest.TokenHeader, middlewaretest.Retry,
	} {
		f.Lacks[option] = "it has no options"
	}
	return f
}

func TestASimpleRightMiddlewarePasses(t *testing.T) {
	middlewaretest.Run(t, behaviour{}.framework())
}

func TestAWrongMiddlewareFailsTheScenarioThatIsAboutIt(t *testing.T) {
	for name, wrong := range map[string]struct {
		behaviour
		scenarios []string
	}{
		"commits after the answer": {behaviour{answerFirst: true}, []string{
			"a failed commit is a 500 that tells nothing",
			"a failed commit takes a larger answer back too",
			"a commit with an unknown outcome is a 500 too",
			"the second of two databases fails",
		}},
		"recovers from panics":      {behaviour{swallowPanic: true}, []string{"a panic rolls back and goes on to the recovery"}},
		"panics again, differently": {behaviour{rethrow: true}, []string{"a panic rolls back and goes on to the recovery"}},
		"panics again, elsewhere":   {behaviour{losesStack: true}, []string{"a panic rolls back and goes on to the recovery"}},
		"commits in a deferred function": {behaviour{commitPanics: true}, []string{
			"a panic rolls back and goes on to the recovery",
			"a handler that leaves by Goexit rolls back",
		}},
		"does not look at the status": {behaviour{alwaysCommit: true}, []string{
			"status 400 rolls back", "status 404 rolls back", "status 500 rolls back", "status 503 rolls back",
			"a returned error rolls back", "requests side by side have scopes of their own",
		}},
		"does not end the scope": {behaviour{neverRelease: true}, []string{"the scope is over after the answer"}},
		"begins in a scope":      {behaviour{alwaysBegin: true}, []string{"a scope that the request has already stays in charge"}},
		"tells the client":       {behaviour{tellErrors: true}, []string{"a failed commit is a 500 that tells nothing"}},
		"tells nobody": {behaviour{hideErrors: true}, []string{
			"a failed commit is a 500 that tells nothing", "a failed rollback is reported", "errors of after-hooks are reported",
			"a rollback that fails under a panic is reported",
		}},
		"takes a dry run for a fault":   {behaviour{dryRunFails: true}, []string{"a dry run rolls back and answers as it would"}},
		"takes any dry run for its own": {behaviour{anyDryRun: true}, []string{"a dry run within a hook is not the request's"}},
		"keeps the handler's headers":   {behaviour{keepHeaders: true}, []string{"a failed commit takes the handler's headers back"}},
		"obeys the cancellation":        {behaviour{obeyCancel: true}, []string{"a client that is gone does not undo what succeeded"}},
		"never commits": {behaviour{eagerRollback: true}, []string{
			"work is committed before the answer", "all work of a request is one transaction", "status 303 commits",
			"two databases are committed in the order of first use",
		}},
		"does not decide at a flush": {behaviour{holdNothing: true}, []string{
			"a flush commits and lets the bytes out",
			"a commit that fails at a flush is a 500, and nothing later is stored",
			"a panic after a flush undoes only what came later",
		}},
	} {
		t.Run(name, func(t *testing.T) { wantFailures(t, wrong.framework(), wrong.scenarios) })
	}
}

func TestWhatAFrameworkLacksIsReportedAsSkipped(t *testing.T) {
	f := behaviour{}.framework()
	skipped := 0
	for s := range middlewaretest.Scenarios() {
		r := record(s, f)
		lacks := func(need middlewaretest.Ability) bool { return f.Lacks[need] != "" }
		i := slices.IndexFunc(s.Needs, lacks)
		if (i >= 0) != (r.skipped != "") {
			t.Errorf("%q: skipped with the reason %q", s.Name, r.skipped)
		}
		if r.skipped != "" {
			skipped++
			if !strings.Contains(r.skipped, f.Lacks[s.Needs[i]]) {
				t.Errorf("%q does not give the reason: %q", s.Name, r.skipped)
			}
		}
	}
	if skipped == 0 {
		t.Error("no scenario needs Flush")
	}
}

func TestScenariosHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for s := range middlewaretest.Scenarios() {
		if seen[s.Name] {
			t.Errorf("two scenarios %q", s.Name)
		}
		seen[s.Name] = true
	}
}

// recorder is a T that keeps what it is told.
type recorder struct {
	began    time.Time
	mu       sync.Mutex
	failures []string
	skipped  string
	cleanups []func()
}

// record runs a scenario to its end, cleanups included.
func record(s middlewaretest.Scenario, f middlewaretest.Framework) *recorder {
	r := &recorder{began: time.Now()}
	var done sync.WaitGroup
	done.Go(func() {
		defer func() {
			for _, cleanup := range slices.Backward(r.cleanups) {
				cleanup()
			}
		}()
		s.Run(r, f)
	})
	done.Wait()
	return r
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
