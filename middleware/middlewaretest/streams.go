package middlewaretest

import (
	"errors"
	"io"

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
		answer, err := s.framework.Call(s.ctx, url)
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
		answer, body := s.call(s.serve(func(x Exchange) error {
			err := errors.Join(s.store(x.Context(), "early"), x.Write("sent"), x.Flush())
			s.fake.Inject("commit", drivertest.Fault{Err: errSecret, Outcome: driver.RolledBack})
			return errors.Join(err, s.store(x.Context(), "late"))
		}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "sent")
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
			panic("late")
		})
		answer, err := s.framework.Call(s.ctx, url)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body) // it may be cut off
			_ = answer.Body.Close()
		}
		s.wait(back, "the late work is rolled back")
		s.wantRows("early")
	}},
}
