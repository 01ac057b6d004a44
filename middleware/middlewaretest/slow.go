package middlewaretest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// impatient is a limit that a client which stops passes soon.
var impatient = Options{ClientTimeout: 50 * time.Millisecond}

// slow are the scenarios about clients that keep a unit waiting. What the client
// of a unit that was too slow to send gets counts as status 408.
var slow = []Scenario{
	{Name: "a client that stops sending loses its unit", Needs: []Ability{ClientTimeout, Receive}, run: func(s *stage) {
		s.stopSending(func(x Exchange) error {
			_, err := io.Copy(io.Discard, x.Body())
			s.wantSlow(x, err)
			return err
		})
	}},
	{Name: "a client that stops sending while a goroutine receives loses its unit", Needs: []Ability{ClientTimeout, Receive}, run: func(s *stage) {
		s.stopSending(func(x Exchange) error {
			received := make(chan error)
			go func() { _, err := io.Copy(io.Discard, x.Body()); received <- err }()
			err := <-received
			s.wantSlow(x, err)
			return err
		})
	}},
	{Name: "a handler that ignores that its client stopped sending is no success", Needs: []Ability{ClientTimeout, Receive}, run: func(s *stage) {
		s.stopSending(func(x Exchange) error {
			_, _ = io.Copy(io.Discard, x.Body())
			err := x.Write("stored")
			if _, once := s.framework.Lacks[Flush]; once { // it is not sent yet
				return nil
			}
			if err = errors.Join(err, x.Flush()); !errors.Is(err, os.ErrDeadlineExceeded) {
				s.Errorf("sending an answer returned %v", err)
			}
			return nil
		})
	}},
	{Name: "a client that stops reading while rows are open loses its unit", Needs: []Ability{ClientTimeout, Flush, ReadOnly}, run: func(s *stage) {
		options := impatient
		options.ReadOnly = true
		s.stopReading(options, func(x Exchange) error {
			_, err := s.query(x.Context())
			return errors.Join(err, x.Flush())
		})
		s.wantRows()
	}},
	{Name: "a client that stops reading loses what came after the first flush", Needs: []Ability{ClientTimeout, Flush}, run: func(s *stage) {
		s.stopReading(impatient, func(x Exchange) error {
			return errors.Join(s.store(x.Context(), "early"), x.Flush(), s.store(x.Context(), "late"))
		})
		s.wantRows("early")
	}},
	{Name: "a client may take its time while no connection is held", Needs: []Ability{ClientTimeout, Receive}, run: func(s *stage) {
		url := s.serveSite(Site{Options: impatient, Handler: func(x Exchange) error {
			body, err := io.ReadAll(x.Body())
			return errors.Join(err, s.store(x.Context(), string(body)), x.Write("stored"))
		}})
		body, send := io.Pipe()
		go func() {
			for range 2 {
				time.Sleep(2 * impatient.ClientTimeout)
				_, _ = io.WriteString(send, "x")
			}
			_ = send.Close()
		}()
		answer := s.open(url, body)
		s.wantStatus(answer, 200)
		s.wantBody(s.read(answer), "stored")
		s.wantRows("xx")
		s.wantErrors()
	}},
}

// stopSending has a client stop in the midst of its body until the connection of
// the unit is back. The handler receives when it has stored a row.
func (s *stage) stopSending(handler func(Exchange) error) {
	s.Helper()
	url := s.serveSite(Site{Options: impatient, Handler: func(x Exchange) error {
		if err := s.store(x.Context(), "row"); err != nil {
			return err
		}
		return handler(x)
	}})
	back := s.connectionBack()
	body, send := io.Pipe()
	go func() {
		_, _ = io.WriteString(send, "x")
		if err := s.await(back, "the connection comes back"); err != nil {
			s.Errorf("%v", err)
		}
		_ = send.Close() // some frameworks have nothing else that wakes the handler
	}()
	answer := s.open(url, body)
	s.wantStatus(answer, 408)
	if text := s.read(answer); strings.Contains(text, "stored") {
		s.Errorf("the client got %q", text)
	}
	s.wantRows()
	s.wantErrors(os.ErrDeadlineExceeded)
	s.wantIdle()
}

// stopReading has a client read nothing of an answer without end until the
// connection of the unit is back. The handler takes one after the answer began.
func (s *stage) stopReading(options Options, begin func(Exchange) error) {
	s.Helper()
	ended := make(chan struct{})
	url := s.serveSite(Site{Options: options, Handler: func(x Exchange) error {
		defer close(ended)
		err := errors.Join(x.Write("begun"), begin(x))
		for err == nil && s.ctx.Err() == nil {
			err = x.Write(strings.Repeat("x", 64<<10))
		}
		s.wantSlow(x, err)
		return nil // whatever the handler says
	}})
	back := s.connectionBack()
	if options == impatient { // the first one goes back as the answer begins
		back = s.connectionBack()
	}
	answer, err := s.framework.Call(s.ctx, url, http.NoBody)
	s.wait(back, "the connection comes back")
	if err == nil { // else not even the beginning came
		if _, err := io.Copy(io.Discard, answer.Body); err == nil {
			s.Errorf("the client got an answer that looks whole")
		}
		_ = answer.Body.Close()
	}
	s.wait(ended, "the handler returns")
	s.wantErrors(os.ErrDeadlineExceeded)
}

// connectionBack is closed when the next connection is given back, or the one after
// those of earlier calls.
func (s *stage) connectionBack() <-chan struct{} {
	back := make(chan struct{})
	s.fake.Inject("release", drivertest.Fault{Entered: back})
	return back
}

// wantSlow checks what the handler gets once its client was too slow.
func (s *stage) wantSlow(x Exchange, err error) {
	s.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "raise ClientTimeout") {
		s.Errorf("the handler got %v", err)
	}
	s.wantIdle()
	err = s.store(context.WithoutCancel(x.Context()), "too late")
	if !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, os.ErrDeadlineExceeded) {
		s.Errorf("a statement after it returned %v", err)
	}
}
