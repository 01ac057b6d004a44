package httpscope_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// next is what an Adapter is for: a handler that returns an error.
type next = func(w http.ResponseWriter, r *http.Request) error

// adapt serves one request to a recorder, as a framework that answers nothing.
func adapt(s *site, outer http.ResponseWriter, next next, opts ...httpscope.Option) error {
	opts = append([]httpscope.Option{httpscope.OnError(func(_ *http.Request, err error) { s.errs = append(s.errs, err) })}, opts...)
	return httpscope.NewAdapter(opts...).Serve(outer, newRequest(s.t, http.MethodPost), next)
}

var errHandler = errors.New("the handler's own")

func TestAnErrorOfNextIsForTheFrameworkToAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		opts   []httpscope.Option
		status int    // that was sent, or 0
		header string // that the framework finds
	}{
		"nothing was written": {func(http.ResponseWriter) {}, nil, 0, "handler"},
		"a success was held":  {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "stored") }, nil, 0, "before"},
		"a failure was held":  {func(w http.ResponseWriter) { w.WriteHeader(409) }, nil, 409, "handler"},
		"what CommitWhen calls a success was held": {
			func(w http.ResponseWriter) { w.WriteHeader(409) },
			[]httpscope.Option{httpscope.CommitWhen(func(_ *http.Request, status int) bool { return status == 409 })},
			0, "before",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t)
			outer := httptest.NewRecorder()
			outer.Code = 0
			outer.Header().Set("X-Set-By", "before")
			err := adapt(s, outer, func(w http.ResponseWriter, r *http.Request) error {
				s.store(r.Context(), "row")
				w.Header().Set("X-Set-By", "handler")
				c.answer(w)
				return errHandler
			}, c.opts...)
			if !errors.Is(err, errHandler) {
				t.Errorf("Serve returned %v", err)
			}
			if outer.Code != c.status || outer.Body.Len() > 0 || outer.Header().Get("X-Set-By") != c.header {
				t.Errorf("sent %d with %v, want %d, with the header of %s", outer.Code, outer.Header(), c.status, c.header)
			}
			s.wantRows()
			s.wantErrors()
			s.wantLog("acquire, begin, exec row, rollback, release")
		})
	}
}

func TestAnErrorOfNextAfterAFlushUndoesOnlyWhatCameLater(t *testing.T) {
	s := prepare(t)
	outer := httptest.NewRecorder()
	err := adapt(s, outer, func(w http.ResponseWriter, r *http.Request) error {
		s.store(r.Context(), "early")
		w.(http.Flusher).Flush()
		s.store(r.Context(), "late")
		return errHandler
	})
	if !errors.Is(err, errHandler) || !outer.Flushed {
		t.Errorf("Serve returned %v, flushed %t", err, outer.Flushed)
	}
	s.wantRows("early")
	s.wantErrors()
}

func TestAnErrorOfNextIsNoSecondAnswerAfterTheFailurePage(t *testing.T) {
	s := prepare(t)
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	outer := httptest.NewRecorder()
	err := adapt(s, outer, func(w http.ResponseWriter, r *http.Request) error {
		s.store(r.Context(), "row")
		return http.NewResponseController(w).Flush()
	})
	if !errors.Is(err, errInjected) {
		t.Errorf("Serve returned %v", err)
	}
	s.want(outer.Code, outer.Body.String(), 500, page)
	s.wantRows()
	s.wantErrors(errInjected)
}

func TestARequestWhoseErrorIsTransientIsServedAgain(t *testing.T) {
	s := prepare(t)
	s.fake.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
	outer := httptest.NewRecorder()
	attempts := 0
	err := adapt(s, outer, func(w http.ResponseWriter, r *http.Request) error {
		attempts++
		w.Header().Add("X-Attempt", "one more")
		if drivertest.Exec(r.Context(), s.db, "row") != nil {
			return errHandler // hides what happened, as handlers do
		}
		w.WriteHeader(http.StatusCreated)
		return nil
	}, httpscope.Retry(quickly, 10))
	if err != nil || attempts != 2 || len(outer.Header()["X-Attempt"]) != 1 || outer.Code != 201 {
		t.Errorf("Serve returned %v after %d attempts, %d %v", err, attempts, outer.Code, outer.Header())
	}
	s.wantRows("row")
}

func TestAnAdapterTellsWhetherItRetries(t *testing.T) {
	if httpscope.NewAdapter().Retries() || !httpscope.NewAdapter(httpscope.Retry(quickly, 10)).Retries() {
		t.Error("it does not")
	}
}
