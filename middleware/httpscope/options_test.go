package httpscope_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestCommitWhenDecidesByRequestAndStatus(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), r.Method)
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusNotFound)
		}
	}, httpscope.CommitWhen(func(r *http.Request, status int) bool {
		return r.Method == http.MethodPut && status == 404 || r.Method == http.MethodPost && status == 200
	}))
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete} {
		s.send(method)
	}
	s.wantRows(http.MethodPut, http.MethodPost)
}

func TestSafeMethodsGetAReadOnlyScopeOnRequest(t *testing.T) {
	for _, on := range []bool{false, true} {
		opts := []httpscope.Option{httpscope.ScopeOptions(dbscope.Isolation(6))}
		if on {
			opts = append(opts, httpscope.ReadOnlySafeMethods())
		}
		for method, safe := range map[string]bool{
			"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true,
			"POST": false, "PUT": false, "PATCH": false, "DELETE": false, "QUERY": false, "get": false,
		} {
			s := prepare(t)
			s.wrap(func(_ http.ResponseWriter, r *http.Request) { s.store(r.Context(), "row") }, opts...).
				ServeHTTP(discard{}, newRequest(t, method))
			readOnly := strings.Contains(strings.Join(s.fake.Log(), ","), "read-only")
			isolated := strings.Contains(strings.Join(s.fake.Log(), ","), "Serializable")
			if readOnly != (safe && on) || !isolated {
				t.Errorf("%s with the option %t: read-only %t, the other options count %t", method, on, readOnly, isolated)
			}
		}
	}
}

func TestAnUnscopedRequestIsPassedOnUntouched(t *testing.T) {
	s := prepare(t)
	outer := httptest.NewRecorder()
	r := newRequest(t, http.MethodGet)
	s.wrap(func(w http.ResponseWriter, got *http.Request) {
		if w != http.ResponseWriter(outer) || got != r {
			t.Errorf("the handler got %T and another request", w)
		}
		if _, ok := dbscope.FromContext(got.Context()); ok {
			t.Error("there is a scope")
		}
	}, httpscope.Unscoped(func(r *http.Request) bool { return r.Method == http.MethodGet })).ServeHTTP(outer, r)
}

func TestWithoutAHookErrorsAreLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	s := prepare(t)
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	httpscope.Middleware()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s.store(r.Context(), "row") })).
		ServeHTTP(httptest.NewRecorder(), newRequest(t, http.MethodPost))
	if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, errInjected.Error()) {
		t.Errorf("the log holds %q", got)
	}
}
