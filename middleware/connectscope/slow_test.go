package connectscope_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

// impatient is a limit that a client which stops passes soon.
var impatient = connectscope.ClientTimeout(50 * time.Millisecond)

// back waits in a goroutine until the connection is.
func (s *site) back(back chan<- struct{}) {
	for s.fake.Open() > 0 && s.t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	close(back)
}

func (s *site) wantSlow(ctx context.Context, err error) {
	s.t.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "raise ClientTimeout") {
		s.t.Errorf("the handler got %v", err)
	}
	err = drivertest.Exec(context.WithoutCancel(ctx), s.db, "late")
	if !errors.Is(err, dbscope.ErrRolledBack) || !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("a later statement returned %v", err)
	}
}

func TestAClientThatStopsSendingLosesItsUnit(t *testing.T) {
	for name, ignored := range map[string]bool{"the handler says so": false, "the handler ignores it": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, impatient)
			back := make(chan struct{})
			s.chat = func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
				if _, err := stream.Receive(); err != nil {
					return err
				}
				s.store(ctx, "row")
				go s.back(back)
				_, err := stream.Receive()
				s.wantSlow(ctx, err)
				if ignored {
					if err := stream.Send(message("")); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("sending returned %v", err)
					}
					return nil
				}
				return err
			}
			stream := s.client(chatMethod).CallBidiStream(t.Context())
			if err := stream.Send(message("order")); err != nil {
				t.Fatal(err)
			}
			<-back
			s.wantRows()
			if err := stream.Send(message("late")); err != nil {
				t.Error(err)
			}
			_, err := stream.Receive()
			wantCode(t, err, connect.CodeDeadlineExceeded)
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
			<-s.ended
			s.wantErrors(os.ErrDeadlineExceeded)
		})
	}
}

func TestAClientThatStopsReadingLosesItsUnit(t *testing.T) {
	for name, begin := range map[string]func(context.Context, *site, *connect.ServerStream[text]){
		"rows are open": func(ctx context.Context, s *site, _ *connect.ServerStream[text]) { s.query(ctx) },
		"a transaction after the first message": func(ctx context.Context, s *site, stream *connect.ServerStream[text]) {
			if err := stream.Send(message("")); err != nil {
				s.t.Error(err)
			}
			s.store(ctx, "row")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, impatient, connectscope.ReadOnly(func(connectscope.Call) bool { return name == "rows are open" }))
			back := make(chan struct{})
			s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
				begin(ctx, s, stream)
				go s.back(back)
				for {
					if err := stream.Send(message(strings.Repeat("x", 1000))); err != nil {
						s.wantSlow(ctx, err)
						return nil // whatever the handler says
					}
				}
			})
			stream, err := s.client(watchMethod).CallServerStream(t.Context(), request("order"))
			if err != nil {
				t.Fatal(err)
			}
			<-back
			for stream.Receive() {
			}
			wantCode(t, stream.Err(), connect.CodeDeadlineExceeded)
			_ = stream.Close()
			<-s.ended
			s.wantErrors(os.ErrDeadlineExceeded)
			s.wantRows()
		})
	}
}
