package httpscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func TestABodyOfExactlyTheLimitIsHeld(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		_, _ = io.WriteString(w, "12345")
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("67890")})
		_, _ = io.WriteString(w, "")
		s.wantRows()
	}, httpscope.HoldLimit(10))
	status, body := s.send(http.MethodPost)
	s.want(status, body, 200, "1234567890")
	s.wantRows("row")
}

func TestPassingTheLimitCommitsAndWhatComesLaterIsCommittedAtTheEnd(t *testing.T) {
	for name, write := range map[string]func(http.ResponseWriter) (int64, error){
		"Write": func(w http.ResponseWriter) (int64, error) {
			n, err := w.Write([]byte("12345678901"))
			return int64(n), err
		},
		"WriteString": func(w http.ResponseWriter) (int64, error) {
			n, err := io.WriteString(w, "12345678901")
			return int64(n), err
		},
		"ReadFrom": func(w http.ResponseWriter) (int64, error) {
			return io.Copy(w, struct{ io.Reader }{strings.NewReader("12345678901")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				s.store(r.Context(), "early")
				if n, err := write(w); n != 11 || err != nil {
					t.Errorf("%d bytes written, %v", n, err)
				}
				s.wantRows("early")
				s.store(r.Context(), "late")
				s.wantRows("early")
			}, httpscope.HoldLimit(10))
			status, body := s.send(http.MethodPost)
			s.want(status, body, 201, "12345678901")
			s.wantRows("early", "late")
			s.wantErrors()
		})
	}
}

func TestPassingTheLimitUnderAnErrorStatusRollsBack(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "early")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "12345678901")
		s.store(r.Context(), "late")
	}, httpscope.HoldLimit(10))
	status, body := s.send(http.MethodPost)
	s.want(status, body, 400, "12345678901")
	s.wantRows()
	s.wantErrors()
}

func TestACommitThatFailsAtTheLimitIsTheFailurePage(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Handler", "1")
		s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
		s.store(r.Context(), "early")
		_, _ = io.WriteString(w, "12345")
		for range 2 {
			if n, err := io.WriteString(w, "678901"); n != 0 || !errors.Is(err, errInjected) {
				t.Errorf("Write returned %d, %v", n, err)
			}
		}
		if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("678901")}); n != 0 || !errors.Is(err, errInjected) {
			t.Errorf("ReadFrom returned %d, %v", n, err)
		}
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, errInjected) {
			t.Errorf("Flush returned %v", err)
		}
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, errInjected) {
			t.Errorf("Hijack returned %v", err)
		}
		w.WriteHeader(http.StatusAccepted)
		s.store(r.Context(), "late")
	}, httpscope.HoldLimit(10))
	resp := s.response(http.MethodPost)
	s.want(resp.StatusCode, s.read(resp), 500, page)
	if got := resp.Header.Get("X-Handler"); got != "" {
		t.Errorf("the handler's header was sent: %q", got)
	}
	s.wantRows()
	s.wantErrors(errInjected)
}

func TestRowsThatAreOpenWhenAWritingScopeMustCommitAreAnErrorThatSaysWhatToDo(t *testing.T) {
	for name, act := range map[string]func(http.ResponseWriter) error{
		"limit": func(w http.ResponseWriter) error { _, err := io.WriteString(w, "12345678901"); return err },
		"copy": func(w http.ResponseWriter) error {
			_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("12345678901")})
			return err
		},
		"flush":  func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"hijack": func(w http.ResponseWriter) error { _, _, err := http.NewResponseController(w).Hijack(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
				s.store(r.Context(), "row")
				rows := s.query(r.Context())
				_, _ = io.WriteString(w, "12345")
				err := act(w)
				if !errors.Is(err, dbscope.ErrSessionBusy) || !strings.Contains(err.Error(), "close the rows first") ||
					!strings.Contains(err.Error(), "HoldLimit") || !strings.Contains(err.Error(), "read-only scope") {
					t.Errorf("the error is %v", err)
				}
				if row, err := rows.Next(); row != "row" || err != nil {
					t.Errorf("the rows were harmed: %q, %v", row, err)
				}
				if err := rows.Close(); err != nil {
					t.Error(err)
				}
				if _, err := io.WriteString(w, "6"); !errors.Is(err, dbscope.ErrSessionBusy) {
					t.Errorf("a write after the lost one returned %v", err)
				}
			}, httpscope.HoldLimit(10))
			status, body := s.send(http.MethodPost)
			s.want(status, body, 500, page)
			s.wantRows()
			s.wantErrors(dbscope.ErrSessionBusy)
		})
	}
}

func TestAPlainFlushOverOpenRowsIsNotForgotten(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		rows := s.query(r.Context())
		_, _ = io.WriteString(w, "12345")
		w.(http.Flusher).Flush()
		_ = rows.Close()
	})
	status, body := s.send(http.MethodPost)
	s.want(status, body, 500, page)
	s.wantRows()
	s.wantErrors(dbscope.ErrSessionBusy)
}

func TestAReadOnlyScopeStreamsOpenRows(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		rows := s.query(r.Context())
		for {
			row, err := rows.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Error(err)
				break
			}
			if _, err := io.WriteString(w, row); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}, httpscope.HoldLimit(10), httpscope.ReadOnlySafeMethods())
	var want strings.Builder
	for _, row := range []string{"first row ", "second row ", "third row "} {
		want.WriteString(row)
		if err := dbscope.Run(t.Context(), func(ctx context.Context) error { s.store(ctx, row); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	before := len(s.fake.Log())
	status, body := s.send(http.MethodGet)
	s.want(status, body, 200, want.String())
	got := strings.Join(s.fake.Log()[before:], ", ")
	if got != "acquire, begin read-only, query all, rows close, commit, release" &&
		got != "acquire, begin read-only, query all, next, next, next, next, rows close, commit, release" {
		t.Errorf("the database saw %q", got)
	}
}

func TestWithoutAHoldTheFirstByteDecides(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		w.WriteHeader(http.StatusOK)
		s.wantRows()
		_, _ = io.WriteString(w, "")
		s.wantRows()
		_, _ = io.WriteString(w, "1")
		s.wantRows("row")
	}, httpscope.HoldLimit(-1))
	status, body := s.send(http.MethodPost)
	s.want(status, body, 200, "1")
}

func TestWithoutAHoldACopyDecidesToo(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("")})
		s.wantRows()
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("12")})
		s.wantRows("row")
	}, httpscope.HoldLimit(-1))
	status, body := s.send(http.MethodPost)
	s.want(status, body, 200, "12")
}

func TestAHookThatFlushesAFailureLeavesNothingToSend(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		flush := func(context.Context) error {
			_ = http.NewResponseController(w).Flush() // the commit that it needs fails
			return nil
		}
		if err := dbscope.BeforeCommit(r.Context(), flush); err != nil {
			t.Error(err)
		}
		if n, err := w.Write(make([]byte, 100_000)); n != 0 || !errors.Is(err, errInjected) {
			t.Errorf("Write returned %d, %v", n, err)
		}
		s.store(r.Context(), "late")
	})
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	status, body := s.send(http.MethodPost)
	s.want(status, body, 500, page)
	s.wantRows()
	s.wantErrors(errInjected)
}

func TestTheFailurePageDoesNotWaitForTheHandler(t *testing.T) {
	s := prepare(t)
	outer := httptest.NewRecorder()
	s.wrap(func(w http.ResponseWriter, r *http.Request) {
		s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
		s.store(r.Context(), "row")
		w.(http.Flusher).Flush()
		s.want(outer.Code, outer.Body.String(), 500, page)
	}).ServeHTTP(outer, newRequest(t, http.MethodPost))
	s.want(outer.Code, outer.Body.String(), 500, page)
}

func TestAClientThatWaitsForAStreamGetsTheFailurePage(t *testing.T) {
	answered := make(chan struct{})
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		w.(http.Flusher).Flush() // as gin's Stream, whose next step waits for something
		select {
		case <-answered:
		case <-r.Context().Done():
			t.Error("the client waited for the handler")
		}
	})
	s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	s.Client().Timeout = 20 * time.Second
	resp := s.response(http.MethodPost)
	close(answered)
	s.want(resp.StatusCode, s.read(resp), 500, page)
}

func TestACopyWithinTheLimitDoesNotReachTheOuterWriter(t *testing.T) {
	s := prepare(t)
	outer := &readerFrom{header: http.Header{}}
	s.wrap(func(w http.ResponseWriter, _ *http.Request) {
		if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("12")}); n != 2 || err != nil {
			t.Errorf("the copy returned %d, %v", n, err)
		}
		if outer.from != nil || outer.written > 0 {
			t.Error("the outer writer got something")
		}
	}).ServeHTTP(outer, newRequest(t, http.MethodGet))
	if outer.from != nil || outer.written != 2 {
		t.Errorf("%d bytes were written, and %v read from", outer.written, outer.from)
	}
}

func TestACopyPastTheLimitIsLeftToTheOuterWriter(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.WriteString(strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src      io.Reader
		file     bool
		read, to int64
	}{
		"a file":         {file, true, 899, 101},
		"a part of one":  {&io.LimitedReader{R: file, N: 500}, true, 399, 101},
		"something else": {&io.LimitedReader{R: strings.NewReader(strings.Repeat("x", 1000)), N: 500}, false, 399, 101},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			s := prepare(t)
			outer := &readerFrom{header: http.Header{}}
			h := s.wrap(func(w http.ResponseWriter, _ *http.Request) {
				n, err := w.(io.ReaderFrom).ReadFrom(c.src)
				if n != c.read+c.to || err != nil {
					t.Errorf("ReadFrom returned %d, %v", n, err)
				}
			}, httpscope.HoldLimit(100))
			h.ServeHTTP(outer, newRequest(t, http.MethodGet))
			from := outer.from
			if part, ok := from.(*io.LimitedReader); ok {
				from = part.R
			}
			if _, isFile := from.(syscall.Conn); isFile != c.file {
				t.Errorf("the outer writer was to read from %T", outer.from)
			}
			if outer.written != c.to || outer.read != c.read {
				t.Errorf("%d bytes were written and %d copied, want %d and %d", outer.written, outer.read, c.to, c.read)
			}
		})
	}
}

// readerFrom is an outer writer that knows how to copy.
type readerFrom struct {
	header  http.Header
	written int64
	read    int64
	from    io.Reader
}

func (w *readerFrom) Header() http.Header { return w.header }
func (w *readerFrom) WriteHeader(int)     {}

func (w *readerFrom) Write(p []byte) (int, error) {
	w.written += int64(len(p))
	return len(p), nil
}

func (w *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	w.from = src
	n, err := io.Copy(io.Discard, src)
	w.read += n
	return n, err
}
