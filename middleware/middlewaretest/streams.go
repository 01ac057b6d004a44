package middlewaretest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// streams are the scenarios about answers that begin before the handler
// returns.
var streams = []Scenario{
	{Name: "a flush commits and lets the bytes out", Needs: []Ability{Flush}, run: func(s *stage) {
		read := make(chan struct{})
		url := s.serve(func(x Exchange) error {
			err := errors.Join(s.store(x.Context(), "early"), x.Write("first"), x.Flush())
			if err != nil {
				return err
			}
			s.wantRows("early")
			if n := s.fake.Open(); n != 0 {
				s.Errorf("%d connections are kept while the answer is streamed", n)
			}
			return errors.Join(s.await(read, "the client reads what was flushed"),
				s.store(x.Context(), "late"), x.Write(" second"))
		})
		answer, err := s.framework.Call(s.ctx, url, http.NoBody)
		if err != nil {
			s.Fatalf("the client got no answer: %v", err)
		}
		first := make([]byte, len("first"))
		if _, err := io.ReadFull(answer.Body, first); err != nil {
			s.Errorf("reading what was flushed: %v", err)
		}
		close(read)
		s.wantStatus(answer, 200)
		s.wantBody(string(first)+s.read(answer), "first second")
		s.wantRows("early", "late")
		s.wantErrors()
	}},
	{Name: "a flush under an error status rolls back, also what comes later", Needs: []Ability{Flush}, run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "early"); err != nil {
				return err
			}
			x.Status(500)
			return errors.Join(x.Write("sorry"), x.Flush(), s.store(x.Context(), "late"))
		}))
		s.wantStatus(answer, 500)
		s.wantBody(body, "sorry")
		s.wantRows()
	}},
	{Name: "a commit that fails at a flush is a 500, and nothing later is stored", Needs: []Ability{Flush}, run: func(s *stage) {
		s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
		answer, body := s.call(s.serve(func(x Exchange) error {
			if err := errors.Join(s.store(x.Context(), "early"), x.Write("stored")); err != nil {
				return err
			}
			if err := x.Flush(); !errors.Is(err, errSecret) {
				s.Errorf("Flush returned %v", err)
			}
			if err := x.Write("more"); !errors.Is(err, errSecret) {
				s.Errorf("Write after it returned %v", err)
			}
			return s.store(x.Context(), "late")
		}))
		s.wantStatus(answer, 500)
		if body == "" || body == "stored" || body == "storedmore" {
			s.Errorf("the client got %q", body)
		}
		s.wantRows()
		s.wantErrors(errSecret)
	}},
	{Name: "a late commit that fails is reported", Needs: []Ability{Flush}, run: func(s *stage) {
		answer := s.open(s.serve(func(x Exchange) error {
			err := errors.Join(s.store(x.Context(), "early"), x.Write("sent"), x.Flush())
			s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
			return errors.Join(err, s.store(x.Context(), "late"))
		}), http.NoBody)
		body, _ := io.ReadAll(answer.Body) // where an answer has an end of its own, that is a failure
		_ = answer.Body.Close()
		s.wantStatus(answer, 200)
		s.wantBody(string(body), "sent")
		s.wantRows("early")
		s.wantErrors(errSecret)
	}},
	{Name: "a panic after a flush undoes only what came later", Needs: []Ability{Flush, Recover}, run: func(s *stage) {
		back := make(chan struct{})
		s.fake.Inject("rollback", drivertest.Fault{Entered: back})
		url := s.serve(func(x Exchange) error {
			if err := errors.Join(s.store(x.Context(), "early"), x.Write("sent"), x.Flush(), s.store(x.Context(), "late")); err != nil {
				return err
			}
			panicsFarDown("late")
			return nil
		})
		answer, err := s.framework.Call(s.ctx, url, http.NoBody)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body) // it may be cut off
			_ = answer.Body.Close()
		}
		s.wait(back, "the late work is rolled back")
		s.wantRows("early")
		s.wantRecovered("late")
	}},
	{Name: "what is flushed is sent after the commit", Needs: []Ability{Flush}, run: func(s *stage) { s.commitFirst(Exchange.Flush) }},
	{Name: "rows that are open at a flush are refused, and not closed", Needs: []Ability{Flush}, run: func(s *stage) {
		s.flushOverRows(func(err error) error { return err })
	}},
	{Name: "a flush that was refused since rows are open is not forgotten", Needs: []Ability{Flush}, run: func(s *stage) {
		s.flushOverRows(func(error) error { return nil })
	}},
	{Name: "a read-only scope streams while rows are open", Needs: []Ability{Flush, ReadOnly}, run: func(s *stage) {
		answer, body := s.call(s.serveSite(Site{Options: Options{ReadOnly: true}, Handler: func(x Exchange) error {
			rows, err := s.query(x.Context())
			if err != nil {
				return err
			}
			for range 3 {
				if err := errors.Join(x.Write("row "), x.Flush()); err != nil {
					return err
				}
				if _, err := rows.Next(); !errors.Is(err, io.EOF) {
					s.Errorf("the next row is %v", err)
				}
			}
			return rows.Close()
		}}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "row row row ")
		s.wantLog("acquire", "begin", "query", "next", "next", "next", "rows", "commit", "release")
		s.wantErrors()
	}},
	{Name: "a read-only scope keeps no connection from part to part", Needs: []Ability{Flush, ReadOnly}, run: func(s *stage) {
		answer, body := s.call(s.serveSite(Site{Options: Options{ReadOnly: true}, Handler: func(x Exchange) error {
			for range 3 {
				rows, err := s.query(x.Context())
				if err != nil {
					return err
				}
				if err := errors.Join(rows.Close(), x.Write("row "), x.Flush()); err != nil {
					return err
				}
				s.wantIdle()
			}
			return nil
		}}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "row row row ")
		s.wantErrors()
	}},
	{Name: "a dry run streams as it would", Needs: []Ability{Flush}, run: func(s *stage) {
		answer, body := s.call(s.serve(func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "early"), dbscope.MarkRollback(x.Context()), x.Write("first"), x.Flush(),
				s.store(x.Context(), "late"), x.Write(" second"))
		}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "first second")
		s.wantRows()
		s.wantErrors()
	}},
	{Name: "a handler may take the connection over", Needs: []Ability{Hijack}, run: func(s *stage) {
		s.fake.Inject("release", drivertest.Fault{}) // that before the connection is taken over
		back := s.connectionBack()
		url := s.serve(func(x Exchange) error {
			if err := s.store(x.Context(), "before"); err != nil {
				return err
			}
			hijacker, ok := x.(Hijacker)
			if !ok {
				return fmt.Errorf("the framework lacks %q, and does not say so", Hijack)
			}
			conn, rw, err := hijacker.Hijack()
			if err != nil {
				return err
			}
			s.wantRows("before")
			err = s.store(x.Context(), "after")
			_, answered := rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			err = errors.Join(err, answered, rw.Flush())
			_, copied := io.Copy(conn, rw) // until the client is done
			if err = errors.Join(err, copied, conn.Close()); err != nil {
				s.Errorf("on the connection: %v", err)
			}
			return nil
		})
		if status, line := s.upgrade(url); status != 101 || line != "ping\n" {
			s.Errorf("the client got status %d and %q, want its own words", status, line)
		}
		s.wait(back, "the connection of the database comes back")
		s.wantRows("before", "after")
		s.wantErrors()
	}},
}

// flushOverRows has a handler flush while rows are open, and end as end says.
func (s *stage) flushOverRows(end func(error) error) {
	s.Helper()
	answer, body := s.call(s.serve(func(x Exchange) error {
		err := s.store(x.Context(), "row")
		rows, failed := s.query(x.Context())
		if err = errors.Join(err, failed, x.Write("stored")); err != nil {
			s.Errorf("before the flush: %v", err)
			return err
		}
		err = x.Flush()
		if !errors.Is(err, dbscope.ErrSessionBusy) || !strings.Contains(err.Error(), "close the rows first") {
			s.Errorf("Flush returned %v", err)
		}
		if row, err := rows.Next(); row != "row" || err != nil {
			s.Errorf("the rows were taken away: %q, %v", row, err)
		}
		if err := rows.Close(); err != nil {
			s.Errorf("closing the rows: %v", err)
		}
		if err := x.Write("more"); err == nil {
			s.Errorf("Write after it returned no error")
		}
		return end(err)
	}))
	s.wantStatus(answer, 500)
	if strings.Contains(body, "stored") {
		s.Errorf("the client got %q", body)
	}
	s.wantRows()
	s.wantErrors(dbscope.ErrSessionBusy)
	s.wantIdle()
}

// upgrade asks for a connection to be taken over, says "ping" on it, and returns
// what comes back.
func (s *stage) upgrade(url string) (status int, line string) {
	s.Helper()
	conn, err := new(net.Dialer).DialContext(s.ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		s.Fatalf("connecting: %v", err)
	}
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping\n")
	r := bufio.NewReader(conn)
	resp, failed := http.ReadResponse(r, nil)
	if err = errors.Join(err, failed); err != nil {
		s.Fatalf("the client got no answer: %v", err)
	}
	line, err = r.ReadString('\n')
	if err = errors.Join(err, conn.Close()); err != nil {
		s.Errorf("on the client's side: %v", err)
	}
	return resp.StatusCode, line
}
