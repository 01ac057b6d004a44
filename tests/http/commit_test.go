package http_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

func TestAConstraintThatFailsAtCommitIsA500AndNoRow(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Order", "1")
			if s.check(w, s.placeLost(r.Context(), 1)) {
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, strings.Repeat("x", int(r.ContentLength)))
			}
		}, nil, http2)
		for _, size := range []int{0, 1, 60_000} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(strings.Repeat("x", size)))
			must(t, err)
			resp, err := server.Client().Do(r)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, errors.Join(err, resp.Body.Close()))
			s.want(resp, string(body), 500, page)
			if resp.Header.Get("X-Order") != "" {
				t.Error("the handler's header was sent")
			}
		}
		s.wantStored()
		s.wantErrors(3)
		s.wantNoneInUse()
	})
}

func TestTheStatusDecides(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/refused":
				if s.check(w, s.place(r.Context(), 1)) {
					http.Error(w, "no", http.StatusConflict)
				}
			case s.check(w, s.place(r.Context(), 2)):
				w.WriteHeader(http.StatusCreated)
			}
		}, nil, http2)
		resp, body := s.send(server, http.MethodPost, "/refused")
		s.want(resp, body, 409, "no\n")
		s.wantStored()
		resp, body = s.send(server, http.MethodPost, "/")
		s.want(resp, body, 201, "")
		s.wantStored(2)
		s.wantErrors(0)
	})
}

// A statement's failure that the handler swallowed must not end as a success.
func TestAFailedStatementThatTheHandlerIgnoresDoesNotEndAsSuccessOfLostWork(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			if s.check(w, s.place(r.Context(), 1)) {
				_ = s.place(r.Context(), 1) // the same key
				_, _ = io.WriteString(w, "done")
			}
		}, nil)
		resp, _ := s.send(server, http.MethodPost, "/")
		if success := resp.StatusCode < 400; success != slices.Equal(s.stored(), []int{1}) {
			t.Errorf("status %d, and stored are %v", resp.StatusCode, s.stored())
		}
	})
}

func TestAPanicUndoesAndReachesTheServer(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		recovered := make(chan any, 1)
		values := map[string]any{"/panic": "no", "/abort": http.ErrAbortHandler}
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if s.check(w, s.place(r.Context(), 1)) {
				_, _ = io.WriteString(w, "held")
				panic(values[r.URL.Path])
			}
		}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					v := recover()
					recovered <- v
					panic(v)
				}()
				next.ServeHTTP(w, r)
			})
		}, http2)
		for path, value := range values {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL+path, http.NoBody)
			must(t, err)
			if resp, err := server.Client().Do(r); err == nil {
				_ = resp.Body.Close()
				t.Errorf("the client got status %d", resp.StatusCode)
			}
			if v := <-recovered; v != value {
				t.Errorf("the outer handler recovered %v, want %v", v, value)
			}
		}
		s.wantStored()
		s.wantErrors(0)
		s.wantNoneInUse()
	})
}

func TestAClientThatIsGoneDoesNotDecide(t *testing.T) {
	onEachProtocol(t, func(t *testing.T, s *service, http2 bool) {
		placed := make(chan struct{})
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			placed <- struct{}{}
			<-r.Context().Done()
			if r.URL.Path == "/heeds" {
				if err := s.place(r.Context(), 2); !errors.Is(err, context.Canceled) {
					t.Errorf("a statement after the client left returned %v", err)
				}
				http.Error(w, "gave up", http.StatusServiceUnavailable)
			}
		}, nil, http2)
		before := s.engine().Stats().MaxIdleClosed
		for _, path := range []string{"/heeds", "/done"} {
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				<-placed
				leave()
			}()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, http.NoBody)
			must(t, err)
			if resp, err := server.Client().Do(r); err == nil {
				_ = resp.Body.Close()
			}
			<-s.ended
			if path == "/heeds" {
				s.wantStored()
			} else {
				s.wantStored(1)
			}
			s.wantNoneInUse()
		}
		s.wantErrors(0)
		if now := s.engine().Stats().MaxIdleClosed; now != before {
			t.Errorf("%d connections were closed", now-before)
		}
	})
}

func TestAHandlerThatTouchesNoDatabaseTakesNoConnection(t *testing.T) {
	db := databases[0]
	s := &service{t: t, db: open(t, db.driver, db.dsn(t)), ended: make(chan struct{}, 1)}
	s.engine().SetMaxOpenConns(1)
	all, err := s.engine().Conn(t.Context()) // nothing is left in the pool
	must(t, err)
	server := s.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, nil)
	resp, body := s.send(server, http.MethodPost, "/")
	s.want(resp, body, 200, "hello")
	must(t, all.Close())
	if n := s.engine().Stats().WaitCount; n != 0 {
		t.Errorf("a connection was waited for %d times", n)
	}
}

func TestTwoDatabasesEndTogetherAsFarAsTheyCan(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		first := databases[0]
		other := open(t, first.driver, first.dsn(t))
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/lost-first" {
				s.check(w, errors.Join(s.placeLost(r.Context(), 1), (&service{db: other}).place(r.Context(), 1)))
				return
			}
			if s.check(w, errors.Join((&service{db: other}).place(r.Context(), 2), s.place(r.Context(), 2))) && r.URL.Path == "/lost-last" {
				s.check(w, s.placeLost(r.Context(), 3))
			}
		}, nil)
		resp, body := s.send(server, http.MethodPost, "/lost-first")
		s.want(resp, body, 500, page)
		s.wantStored()
		if got := storedIn(t, pool(t, other)); len(got) != 0 {
			t.Errorf("stored in the other database: %v", got)
		}
		resp, body = s.send(server, http.MethodPost, "/lost-last")
		s.want(resp, body, 500, page)
		s.wantStored()
		s.wantErrors(2)
		if got := storedIn(t, pool(t, other)); !slices.Equal(got, []int{2}) {
			t.Errorf("stored in the other database: %v", got)
		}
		s.mu.Lock()
		failure := (*dbscope.CommitError)(nil)
		if !errors.As(s.errs[1], &failure) || len(failure.Outcomes) != 2 ||
			failure.Outcomes[0].State != driver.Committed || failure.Outcomes[1].State != driver.RolledBack {
			t.Errorf("the error does not tell what became of each database: %v", s.errs[1])
		}
		s.mu.Unlock()
	})
}

func TestADryRunStoresNothingAndAnswersAsItWould(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			if s.check(w, errors.Join(s.place(r.Context(), 1), dbscope.MarkRollback(r.Context()))) {
				w.WriteHeader(http.StatusCreated)
			}
		}, nil)
		resp, body := s.send(server, http.MethodPost, "/")
		s.want(resp, body, 201, "")
		s.wantStored()
		s.wantErrors(0)
	})
}

func TestManyRequestsShareAFewConnections(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		var mu sync.Mutex
		next, want := 0, []int(nil)
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			next++
			id := next
			mu.Unlock()
			if !s.check(w, s.place(r.Context(), id)) {
				return
			}
			if id%3 == 0 {
				w.WriteHeader(http.StatusConflict)
				return
			}
			mu.Lock()
			want = append(want, id)
			mu.Unlock()
		}, nil)
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				for range 10 {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := server.Client().Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
				}
			})
		}
		clients.Wait()
		slices.Sort(want)
		s.wantStored(want...)
		s.wantErrors(0)
		s.wantNoneInUse()
	})
}
