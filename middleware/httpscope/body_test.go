package httpscope_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// exchange sends bytes to the server, and returns all that it answers before it
// closes the connection.
func exchange(t *testing.T, server *httptest.Server, request string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// echoes answers each line of the body as it comes.
func echoes(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 always is
	part := make([]byte, 3)
	for {
		if _, err := io.ReadFull(r.Body, part); err != nil {
			return
		}
		_, _ = w.Write(part)
		_ = control.Flush()
	}
}

func TestAFullDuplexHandlerAnswersWhileTheBodyIsBeingSent(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for name, wrap := range around {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", name, http2), func(t *testing.T) {
				server := serve(t, wrap(http.HandlerFunc(echoes)), http2)
				body, send := io.Pipe()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(20*time.Second, func() { _ = send.CloseWithError(errors.New("nothing came back")) })
				go func() { _, _ = io.WriteString(send, "one") }()
				resp, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				part := make([]byte, 3)
				for _, want := range []string{"one", "two", "six"} {
					if _, err := io.ReadFull(resp.Body, part); err != nil || string(part) != want {
						t.Fatalf("the client read %q, %v, want %q", part, err, want)
					}
					if want != "six" {
						next := map[string]string{"one": "two", "two": "six"}[want]
						go func() { _, _ = io.WriteString(send, next) }()
					}
				}
				_ = send.Close()
				if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
					t.Errorf("the client read %q, %v", rest, err)
				}
				_ = resp.Body.Close()
			})
		}
	}
}

// An attempt finds what those before it have read, and reads on.
func TestAnotherAttemptReadsTheBodyFromItsBeginning(t *testing.T) {
	for name, reads := range map[string][]func(io.ReadCloser) string{
		"all, all":       {readAll, readAll},
		"a part, all":    {readSome, readAll},
		"nothing, all":   {readNone, readAll},
		"closed, all":    {readAndClose, readAll},
		"unread, closed": {closeOnly, readAll},
		"all, a part":    {readAll, readSome},
	} {
		for _, length := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with a length %t", name, length), func(t *testing.T) {
				attempt := 0
				s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
					attempt++
					s.store(r.Context(), "row")
					_, _ = io.WriteString(w, reads[min(attempt, len(reads))-1](r.Body))
				}, httpscope.Retry(quickly, 10))
				s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
				var body io.Reader = strings.NewReader("0123456789")
				if !length {
					body = io.MultiReader(body)
				}
				resp, got := s.post(body)
				want := "0123456789"
				if strings.HasSuffix(name, "a part") {
					want = "0123"
				}
				s.want(resp.StatusCode, got, 200, want)
				if attempt != 2 {
					t.Errorf("%d attempts", attempt)
				}
			})
		}
	}
}

func readAll(body io.ReadCloser) string {
	got, err := io.ReadAll(body)
	if err != nil {
		return err.Error()
	}
	return string(got)
}

func readSome(body io.ReadCloser) string {
	got := make([]byte, 4)
	_, _ = io.ReadFull(body, got)
	return string(got)
}

func readNone(io.ReadCloser) string { return "" }

func readAndClose(body io.ReadCloser) string {
	got := readSome(body)
	_ = body.Close()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		return fmt.Sprint(err)
	}
	return got
}

func closeOnly(body io.ReadCloser) string {
	_ = body.Close()
	return ""
}

func TestARequestIsServedOnceWhereItsBodyCannotBeReadAgain(t *testing.T) {
	for name, c := range map[string]struct {
		body io.Reader
		want string
	}{
		"more was read than is kept": {io.MultiReader(strings.NewReader("0123456789"), strings.NewReader("a")), "0123456789a"},
		"it cannot be read":          {&breaks{}, errInjected.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t)
			attempts := 0
			s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
			outer := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", c.body)
			r.ContentLength = -1
			s.wrap(func(_ http.ResponseWriter, r *http.Request) {
				attempts++
				s.store(r.Context(), "row")
				if got := readAll(r.Body); got != c.want {
					t.Errorf("the handler read %q, want %q", got, c.want)
				}
			}, httpscope.Retry(quickly, 10)).ServeHTTP(outer, r)
			s.want(outer.Code, outer.Body.String(), 500, page)
			if attempts != 1 {
				t.Errorf("%d attempts", attempts)
			}
		})
	}
}

// breaks is a body that fails after its first bytes.
type breaks struct{ read bool }

func (b *breaks) Read(p []byte) (int, error) {
	if b.read {
		return 0, errInjected
	}
	b.read = true
	return copy(p, "012"), nil
}

// The body is the next attempt's, if the goroutine does not read it just now.
func TestAGoroutineThatIsLeftBehindReadsNothingOfTheNextAttemptsBody(t *testing.T) {
	kept := make(chan io.Reader, 1)
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		if len(kept) == 0 {
			kept <- r.Body
			return
		}
		if n, err := (<-kept).Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("the first attempt's body answers %d, %v", n, err)
		}
		_, _ = io.WriteString(w, readAll(r.Body))
	}, httpscope.Retry(quickly, 10))
	s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	resp, got := s.post(strings.NewReader("0123456789"))
	s.want(resp.StatusCode, got, 200, "0123456789")
}

func TestAGoroutineThatStillReadsTheBodyIsReasonEnoughForOneAttempt(t *testing.T) {
	body := &waits{reads: make(chan struct{}), release: make(chan struct{})}
	done := make(chan struct{})
	attempts := 0
	s := prepare(t)
	s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	outer := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
	r.ContentLength = -1
	s.wrap(func(_ http.ResponseWriter, r *http.Request) {
		attempts++
		s.store(r.Context(), "row")
		go func() {
			defer close(done)
			_, _ = r.Body.Read(make([]byte, 10))
		}()
		<-body.reads
	}, httpscope.Retry(quickly, 10)).ServeHTTP(outer, r)
	s.want(outer.Code, outer.Body.String(), 500, page)
	if attempts != 1 {
		t.Errorf("%d attempts", attempts)
	}
	close(body.release)
	<-done
}

// A handler may close the body to stop a goroutine that reads it.
func TestABodyThatIsBeingReadIsClosedAtOnce(t *testing.T) {
	body := &waits{reads: make(chan struct{}), release: make(chan struct{})}
	s := prepare(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	r.Body, r.ContentLength = body, -1
	s.wrap(func(_ http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = r.Body.Read(make([]byte, 10))
		}()
		<-body.reads
		if err := r.Body.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}, httpscope.Retry(quickly, 10)).ServeHTTP(httptest.NewRecorder(), r)
}

// waits is a body whose Read waits until it is closed, as that of HTTP/2 does.
type waits struct{ reads, release chan struct{} }

func (w *waits) Read([]byte) (int, error) {
	close(w.reads)
	<-w.release
	return 0, io.EOF
}

func (w *waits) Close() error { close(w.release); return nil }

// ParseForm believes a MaxBytesReader's limit, and else has one of 10 MB.
func TestAFormAsLargeAsALimitOutsideAllowsIsReadUnderRetry(t *testing.T) {
	form := "item=" + strings.Repeat("x", 11<<20)
	s := newSite(t, func(_ *site, w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, len(r.PostFormValue("item")))
	}, httpscope.Retry(quickly, 20<<20))
	limited := http.MaxBytesHandler(s.Config.Handler, 15<<20)
	server := serve(t, limited, false)
	resp, err := server.Client().Post(server.URL, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	s.want(resp.StatusCode, s.read(resp), 200, fmt.Sprint(11<<20))
}

func TestTheLargestLimitsWork(t *testing.T) {
	row := strings.Repeat("x", 10_000)
	for name, opts := range map[string][]httpscope.Option{
		"HoldLimit": {httpscope.HoldLimit(math.MaxInt)},
		"Retry":     {httpscope.Retry(quickly, math.MaxInt)},
		"both":      {httpscope.HoldLimit(math.MaxInt), httpscope.Retry(quickly, math.MaxInt)},
	} {
		for kind, body := range map[string]io.Reader{"known": strings.NewReader(row), "unknown": io.MultiReader(strings.NewReader(row))} {
			t.Run(name+", of "+kind+" length", func(t *testing.T) {
				s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
					s.store(r.Context(), "row")
					if n, err := io.Copy(w, struct{ io.Reader }{r.Body}); n != 10_000 || err != nil {
						t.Errorf("%d bytes were copied, %v", n, err)
					}
				}, opts...)
				if name != "HoldLimit" {
					s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
				}
				resp, got := s.post(body)
				s.want(resp.StatusCode, got, 200, row)
			})
		}
	}
}
