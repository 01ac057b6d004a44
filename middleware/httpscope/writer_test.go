package httpscope_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func newRequest(t testing.TB, method string) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), method, "/", http.NoBody)
}

func TestAWriterThatIsKeptAnswersWithErrorsAndHarmsNobody(t *testing.T) {
	kept := make(chan http.ResponseWriter, 1)
	s := newSite(t, func(_ *site, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			kept <- w
		}
		_, _ = io.WriteString(w, "own words")
	})
	s.send(http.MethodPost)
	w := <-kept
	for range 10 {
		if n, err := io.WriteString(w, "foreign"); n != 0 || err == nil {
			t.Errorf("WriteString returned %d, %v", n, err)
		}
		if n, err := w.Write([]byte("foreign")); n != 0 || err == nil {
			t.Errorf("Write returned %d, %v", n, err)
		}
		if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("foreign")}); n != 0 || err == nil {
			t.Errorf("ReadFrom returned %d, %v", n, err)
		}
		if err := http.NewResponseController(w).Flush(); err == nil {
			t.Error("Flush returned nil")
		}
		if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Error("Hijack returned nil")
		}
		w.Header().Set("X-Foreign", "1")
		w.WriteHeader(http.StatusTeapot)
		resp := s.response(http.MethodGet)
		s.want(resp.StatusCode, s.read(resp), 200, "own words")
		if resp.Header.Get("X-Foreign") != "" {
			t.Error("a foreign header was sent")
		}
	}
}

func TestTheHeadersOfAWriterThatIsKeptAreItsOwn(t *testing.T) {
	var kept http.ResponseWriter
	outer := httptest.NewRecorder()
	prepare(t).wrap(func(w http.ResponseWriter, _ *http.Request) { kept = w }).ServeHTTP(outer, newRequest(t, http.MethodGet))
	kept.Header().Set("X-Foreign", "1")
	if len(outer.Header()) > 0 {
		t.Errorf("the outer headers are %v", outer.Header())
	}
}

// A goroutine that writes while the handler returns is wrong, and must still
// not reach another request's buffer.
func TestAGoroutineThatOutlivesItsHandlerDoesNotReachOtherRequests(t *testing.T) {
	s := prepare(t)
	for range 1000 {
		done := make(chan struct{})
		s.wrap(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			go func() {
				defer close(done)
				for range 10 {
					_, _ = io.WriteString(w, "foreign")
				}
			}()
		}).ServeHTTP(discard{}, newRequest(t, http.MethodGet))
		own := httptest.NewRecorder()
		s.wrap(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "own ")
			_, _ = io.WriteString(w, "words")
		}).ServeHTTP(own, newRequest(t, http.MethodGet))
		<-done
		if got := own.Body.String(); got != "own words" {
			t.Fatalf("the answer is %q", got)
		}
	}
}

// discard is an outer writer that nobody looks at.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestAWriterThatCannotFlushOrHijackSaysSoAndHoldsOn(t *testing.T) {
	s := prepare(t)
	s.wrap(func(w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		_, _ = io.WriteString(w, "held")
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Flush returned %v", err)
		}
		if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Hijack returned %v", err)
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SetWriteDeadline returned %v", err)
		}
		s.wantRows()
	}).ServeHTTP(discard{}, newRequest(t, http.MethodPost))
	s.wantRows("row")
	s.wantErrors()
}

func TestALibraryThatKnowsNoContextsHearsThatTheClientIsGone(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	gone := make(chan bool, 1)
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		closed := w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
		leave()
		gone <- <-closed
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := s.Client().Do(r); err == nil {
		_ = resp.Body.Close()
		t.Error("the client was answered")
	}
	if !<-gone {
		t.Error("the handler was told that the client is there")
	}
	<-s.ended
	s.wantRows("row")
}

func TestTheHeadersOfOuterMiddlewaresSurviveAFailedCommit(t *testing.T) {
	s := prepare(t)
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	outer := httptest.NewRecorder()
	outer.Header().Set("X-Request-Id", "7")
	outer.Header()["Vary"] = []string{"a", "b"}
	s.wrap(func(w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		w.Header().Del("X-Request-Id")
		w.Header().Add("Vary", "c")
		w.Header().Set("Set-Cookie", "session=secret")
		w.Header().Set("Content-Length", "3")
		_, _ = io.WriteString(w, "yes")
	}, httpscope.FailurePage(func(w http.ResponseWriter, r *http.Request, err error) {
		if !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("the page is for %v", err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "try again "+r.URL.Path)
	})).ServeHTTP(outer, newRequest(t, http.MethodPost))
	s.want(outer.Code, outer.Body.String(), 503, "try again /")
	if got := fmt.Sprint(outer.Header()); got != "map[Vary:[a b] X-Request-Id:[7]]" {
		t.Errorf("the headers are %s", got)
	}
	s.wantErrors(errInjected)
}

func TestAPanicTakesTheHeadersBackAndKeepsItsStack(t *testing.T) {
	for _, value := range []any{"no", http.ErrAbortHandler} {
		s := prepare(t)
		outer := httptest.NewRecorder()
		outer.Header().Set("X-Request-Id", "7")
		func() {
			defer func() {
				if v := recover(); v != value {
					t.Errorf("the panic's value is %v, want %v", v, value)
				}
				if stack := string(debug.Stack()); !strings.Contains(stack, "panicsFarDown") {
					t.Errorf("the stack has lost the place of the panic:\n%s", stack)
				}
			}()
			s.wrap(func(w http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "row")
				w.Header().Set("Set-Cookie", "session=secret")
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, "held")
				panicsFarDown(value)
			}).ServeHTTP(outer, newRequest(t, http.MethodPost))
		}()
		if outer.Body.Len() > 0 || len(outer.Header()) != 1 || outer.Header().Get("X-Request-Id") != "7" {
			t.Errorf("something of the held response is left: %q %v", outer.Body, outer.Header())
		}
		s.wantLog("acquire, begin, exec row, rollback, release")
		s.wantErrors()
	}
}

//go:noinline
func panicsFarDown(value any) { panic(value) }

func TestADryRunWhoseRollbackFailsIsReportedAndAnswered(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.fake.Inject("rollback", drivertest.Fault{Err: errInjected})
		s.store(r.Context(), "row")
		if err := dbscope.MarkRollback(r.Context()); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "would do")
	})
	status, body := s.send(http.MethodPost)
	s.want(status, body, 200, "would do")
	s.wantErrors(errInjected)
}

func TestWhatTheServerLooksAtInTheRequestReachesIt(t *testing.T) {
	for name, leave := range map[string]func(){"return": func() {}, "panic": func() { panic("no") }} {
		t.Run(name, func(t *testing.T) { testWhatTheServerLooksAt(t, leave) })
	}
}

func testWhatTheServerLooksAt(t *testing.T, leave func()) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /files/{name}", func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
			t.Errorf("the upload is in the files %q", files)
		}
		leave()
	})
	pattern := make(chan string, 1)
	scoped := httpscope.Middleware()(mux)
	ended := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			_ = recover()
			pattern <- r.Pattern
		}()
		scoped.ServeHTTP(w, r)
	}))
	server.Config.ConnState = connEnds(ended)
	server.Start()
	defer server.Close()
	body, contentType := upload(t, "tea")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/files/a", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Close = true
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := <-pattern; got != "POST /files/{name}" {
		t.Errorf("the pattern outside is %q", got)
	}
	<-ended
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("the files of the form are left: %q", files)
	}
}

func TestTheCommitIsDecidedBeforeAHijack(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		stored bool
	}{"without a status": {0, true}, "switching protocols": {101, true}, "refusing": {403, false}} {
		t.Run(name, func(t *testing.T) {
			var asked []int
			s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "early")
				if c.status != 0 {
					w.Header().Set("Upgrade", "words")
					w.Header().Set("Connection", "Upgrade")
					w.WriteHeader(c.status)
				}
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Errorf("Hijack returned %v", err)
					return
				}
				defer func() { _ = conn.Close() }()
				if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrHijacked) {
					t.Errorf("Write returned %v", err)
				}
				if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrHijacked) {
					t.Errorf("a second Hijack returned %v", err)
				}
				if c.stored {
					s.wantRows("early")
				} else {
					s.wantRows()
				}
				if c.status == 0 {
					_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: words\r\nConnection: Upgrade\r\n\r\n")
				}
				_, _ = rw.WriteString("words")
				_ = rw.Flush()
				s.store(r.Context(), "late")
			}, httpscope.CommitWhen(func(_ *http.Request, status int) bool {
				asked = append(asked, status)
				return status < 400
			}))
			resp := s.response(http.MethodGet)
			got := make([]byte, 5)
			if _, err := io.ReadFull(bufio.NewReader(resp.Body), got); c.status != 403 && (err != nil || string(got) != "words") {
				t.Errorf("the client read %q, %v", got, err)
			}
			_ = resp.Body.Close()
			<-s.ended
			if c.stored {
				s.wantRows("early", "late")
			} else {
				s.wantRows()
			}
			want := c.status
			if want == 0 {
				want = 101
			}
			if fmt.Sprint(asked) != fmt.Sprint([]int{want, want}) {
				t.Errorf("the policy was asked about %v", asked)
			}
		})
	}
}

func TestAnAnswerAfterAHijackThatFailedIsSent(t *testing.T) {
	s := prepare(t)
	outer := &cannotHijack{httptest.NewRecorder()}
	s.wrap(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, errInjected) {
			t.Errorf("Hijack returned %v", err)
		}
		s.store(r.Context(), "row")
		http.Error(w, "no", http.StatusConflict)
	}).ServeHTTP(outer, newRequest(t, http.MethodPost))
	s.want(outer.Code, outer.Body.String(), 409, "no\n")
	s.wantRows()
}

func TestAHandlerThatTouchesNoDatabaseCostsAtMostSixAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	part := make([]byte, 100)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for { // nothing is held, so nothing waits
			if _, err := r.Body.Read(part); err != nil {
				break
			}
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "hello")
	})
	for name, body := range map[string]*strings.Reader{"no body": nil, "a body": strings.NewReader("body")} {
		r := newRequest(t, http.MethodGet)
		outer := &readerFrom{header: http.Header{}}
		if body != nil {
			r.Body = io.NopCloser(body)
		}
		measure := func(h http.Handler) float64 {
			return testing.AllocsPerRun(1000, func() {
				clear(outer.header)
				if body != nil {
					body.Reset("body")
				}
				h.ServeHTTP(outer, r)
			})
		}
		bare, with := measure(handler), measure(httpscope.Middleware()(handler))
		t.Logf("%s: %v allocations bare, %v with the middleware", name, bare, with)
		if with-bare > 6 {
			t.Errorf("%s: %v allocations more than the bare handler", name, with-bare)
		}
	}
}

// Two goroutines may not use one session: what a handler left running is
// undone, and the client does not hear of success.
func TestAStatementThatStillRunsWhenTheHandlerReturnsIsAFailedCommit(t *testing.T) {
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := newSite(t, func(s *site, _ http.ResponseWriter, r *http.Request) {
		tx, err := s.db.Session(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		s.fake.Inject("exec", drivertest.Fault{Entered: entered, Until: release})
		go func() {
			defer close(done)
			_ = tx.Exec(context.WithoutCancel(r.Context()), "row")
		}()
		<-entered
	})
	status, body := s.send(http.MethodPost)
	s.want(status, body, 500, page)
	close(release)
	<-done
	s.wantRows()
	s.wantErrors(dbscope.ErrSessionBusy)
	if n := s.fake.Open(); n != 0 {
		t.Errorf("%d connections are not back", n)
	}
}
