package idempotent_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

// service is a server with httpscope and the middleware around a handler.
type service struct {
	*opened
	t      testing.TB
	server *httptest.Server
	served atomic.Int64 // how many requests are being served

	mu   sync.Mutex
	told []error // what either middleware has told of
}

type setup struct {
	http    []httpscope.Option
	keys    []idempotent.Option
	of      idempotent.Principal
	between func(http.Handler) http.Handler // of the two middlewares
	outside func(http.Handler) http.Handler
	context func(context.Context) context.Context // of the requests
}

func serve(t testing.TB, d *opened, with setup, h http.HandlerFunc) *service {
	t.Helper()
	s := &service{opened: d, t: t}
	tell := func(_ *http.Request, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told = append(s.told, err)
	}
	if with.of == nil {
		with.of = idempotent.Anybody
	}
	root := idempotent.Middleware(d.scoped, with.of, append([]idempotent.Option{idempotent.OnError(tell)}, with.keys...)...)(h)
	if with.between != nil {
		root = with.between(root)
	}
	root = httpscope.Middleware(append([]httpscope.Option{httpscope.OnError(tell)}, with.http...)...)(root)
	if with.outside != nil {
		root = with.outside(root)
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if with.context != nil {
			r = r.WithContext(with.context(r.Context()))
		}
		s.served.Add(1)
		defer s.served.Add(-1)
		root.ServeHTTP(w, r)
	}))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
	s.server.Start()
	t.Cleanup(s.server.Close)
	return s
}

// ordering is a handler that places the order in the body, and answers with something
// that is never the same.
func (d *opened) ordering(w http.ResponseWriter, r *http.Request) {
	item, err := io.ReadAll(r.Body)
	if err = cmp.Or(err, d.place(r.Context(), string(item))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Location", "/orders/"+rand.Text())
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "%s is order %s", item, rand.Text())
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) replayed() bool { return a.header.Get(idempotent.ReplayedHeader) == "true" }

// ask sends a request with a key, unless that is empty; headers are names and values in turn.
func (s *service) ask(method, path, key, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.send(method, path, key, body, headers...)
	must(s.t, err)
	return a
}

func (s *service) send(method, path, key, body string, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := s.server.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(got)}, errors.Join(err, resp.Body.Close())
}

// order places one order.
func (s *service) order(key, item string, headers ...string) answer {
	s.t.Helper()
	return s.ask(http.MethodPost, "/orders", key, item, headers...)
}

func (a answer) want(t testing.TB, status int, containing string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, containing) {
		t.Errorf("the client got %d %.300q, want %d and %q", a.status, a.body, status, containing)
	}
}

// wantSame checks that a later answer is a replay of the first.
func (a answer) wantSame(t testing.TB, first answer) {
	t.Helper()
	if a.status != first.status || a.body != first.body || a.header.Get("Location") != first.header.Get("Location") || !a.replayed() {
		t.Errorf("the answer to the repeated request is %d %q %v, the first was %d %q %v", a.status, a.body, a.header, first.status, first.body, first.header)
	}
}

// wantTold checks that exactly one error was told, which wraps the target and holds the text.
func (s *service) wantTold(target error, text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) != 1 || target != nil && !errors.Is(s.told[0], target) || !strings.Contains(s.told[0].Error(), text) {
		s.t.Errorf("told was %v, want one error that is %v with %q", s.told, target, text)
	}
	s.told = nil
}

func (s *service) wantNothingTold() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) > 0 {
		s.t.Errorf("told was %v", s.told)
	}
}
