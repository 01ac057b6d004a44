package httpscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func (s *site) wantOpen(want int) {
	s.t.Helper()
	if n := s.fake.Open(); n != want {
		s.t.Errorf("%d connections are out of the pool, want %d", n, want)
	}
}

// begin are the ways in which a response begins before its handler returns.
var begin = map[string]func(http.ResponseWriter) error{
	"flush": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
	"limit": func(w http.ResponseWriter) error { _, err := io.WriteString(w, "12345678901"); return err },
	"copy": func(w http.ResponseWriter) error {
		_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("12345678901")})
		return err
	},
	"hijack": func(w http.ResponseWriter) error {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			err = conn.Close()
		}
		return err
	},
}

// proceed are the ways in which it goes on.
var proceed = map[string]func(http.ResponseWriter) error{
	"flush":       begin["flush"],
	"write":       func(w http.ResponseWriter) error { _, err := w.Write([]byte("x")); return err },
	"WriteString": func(w http.ResponseWriter) error { _, err := io.WriteString(w, "x"); return err },
	"copy":        begin["copy"],
}

// A browser that reads server-sent events keeps its request for hours.
func TestAUnitWithNothingOpenKeepsNoConnectionOnceItsResponseHasBegun(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for name, begins := range begin {
			t.Run(method+" "+name, func(t *testing.T) {
				s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
					rows := s.query(r.Context())
					if err := errors.Join(rows.Close(), begins(w)); err != nil {
						t.Error(err)
					}
					s.wantOpen(0)
				}, httpscope.HoldLimit(10), httpscope.ReadOnlySafeMethods())
				s.send(method)
				s.wantErrors()
			})
		}
	}
}

func TestAReadOnlyUnitGivesItsConnectionBackWithTheNextPartOfTheResponseAtWhichNoRowsAreOpen(t *testing.T) {
	for first, begins := range begin {
		if first == "hijack" {
			continue // no further part goes through the middleware
		}
		for next, proceeds := range proceed {
			t.Run(first+", "+next, func(t *testing.T) {
				s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
					rows := s.query(r.Context())
					if err := begins(w); err != nil {
						t.Error(err)
					}
					s.wantOpen(1)
					if err := errors.Join(proceeds(w), rows.Close(), proceeds(w)); err != nil {
						t.Error(err)
					}
					s.wantOpen(0)
					for range 2 { // a query for each event
						if err := errors.Join(s.query(r.Context()).Close(), proceeds(w)); err != nil {
							t.Error(err)
						}
						s.wantOpen(0)
					}
				}, httpscope.HoldLimit(10), httpscope.ReadOnlySafeMethods())
				if status, _ := s.send(http.MethodGet); status != http.StatusOK {
					t.Errorf("the client got %d", status)
				}
				s.wantErrors()
			})
		}
	}
}

// As gorm and database/sql users do: the nested transaction holds the work
// together, and is not the middleware's to end.
func TestANestedTransactionOfAReadOnlyUnitGoesOnWhenTheResponseBegins(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		tx, err := drivertest.Begin(r.Context(), s.db)
		if err != nil {
			t.Error(err)
			return
		}
		rows, err := tx.Query(r.Context(), "all")
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(rows.Close(), begin["flush"](w), tx.Exec(r.Context(), "read"), tx.Commit(r.Context()), begin["flush"](w)); err != nil {
			t.Error(err)
		}
		s.wantOpen(0)
	}, httpscope.ReadOnlySafeMethods())
	if status, _ := s.send(http.MethodGet); status != http.StatusOK {
		t.Errorf("the client got %d", status)
	}
	s.wantErrors()
}

func TestAStreamThatCommitsKeepsNoConnection(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "first")
		if err := begin["flush"](w); err != nil {
			t.Error(err)
		}
		for _, row := range []string{"second", "third"} {
			s.store(r.Context(), row)
			s.wantOpen(1)
			if err := s.db.Commit(r.Context()); err != nil {
				t.Error(err)
			}
			s.wantOpen(0)
		}
		s.wantRows("first", "second", "third")
	})
	s.send(http.MethodPost)
	s.wantErrors()
}

// What a read-only unit did is not worth a success when the database took it
// back, and the response has not begun yet.
func TestAReadOnlyUnitWhoseTransactionFailedIsTheFailurePageAsTheResponseBegins(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		_ = drivertest.Exec(r.Context(), s.db, "read") // the handler overlooks the error
		_, _ = io.WriteString(w, "half of it")
		if err := begin["flush"](w); !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("Flush returned %v", err)
		}
	}, httpscope.ReadOnlySafeMethods())
	s.fake.Inject("exec", drivertest.Fault{Err: errInjected, Fate: driver.Aborted})
	status, body := s.send(http.MethodGet)
	s.want(status, body, 500, page)
	s.wantErrors(errInjected)
	s.wantOpen(0)
}

func TestAReadOnlyUnitWhoseTransactionFailedSendsTheHandlersOwnFailure(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		if drivertest.Exec(r.Context(), s.db, "read") != nil {
			http.Error(w, "sorry", http.StatusServiceUnavailable)
		}
		if err := begin["flush"](w); err != nil {
			t.Error(err)
		}
		s.wantOpen(0)
	}, httpscope.ReadOnlySafeMethods())
	s.fake.Inject("exec", drivertest.Fault{Err: errInjected, Fate: driver.Aborted})
	status, body := s.send(http.MethodGet)
	s.want(status, body, 503, "sorry\n")
	s.wantErrors()
}

func TestAReadOnlyUnitThatFailsAfterTheResponseHasBegunIsReportedOnce(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		err := errors.Join(s.query(r.Context()).Close(), begin["flush"](w))
		s.fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
		err = errors.Join(err, s.query(r.Context()).Close(), begin["flush"](w), begin["flush"](w))
		if err != nil {
			t.Error(err)
		}
	}, httpscope.ReadOnlySafeMethods())
	status, body := s.send(http.MethodGet)
	s.want(status, body, 200, "")
	s.wantErrors(errInjected)
}

func TestAHookThatWritesWhileAReadOnlyTransactionEndsIsSent(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		err := begin["flush"](w)
		err = errors.Join(err, s.db.AfterCommit(r.Context(), func(context.Context) error {
			_, err := io.WriteString(w, "hook ")
			return err
		}), s.query(r.Context()).Close())
		_, werr := io.WriteString(w, "handler")
		if err = errors.Join(err, werr); err != nil {
			t.Error(err)
		}
	}, httpscope.ReadOnlySafeMethods())
	status, body := s.send(http.MethodGet)
	s.want(status, body, 200, "hook handler")
	s.wantErrors()
}
