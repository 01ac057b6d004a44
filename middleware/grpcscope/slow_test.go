package grpcscope_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

// impatient is a limit that a client which stops passes soon.
var impatient = grpcscope.ClientTimeout(50 * time.Millisecond)

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
	for name, wait := range map[string]func(grpc.ServerStream) error{
		"at once": func(stream grpc.ServerStream) error { return stream.RecvMsg(&text{}) },
		"in a goroutine": func(stream grpc.ServerStream) error {
			received := make(chan error)
			go func() { received <- stream.RecvMsg(&text{}) }()
			return <-received
		},
	} {
		for _, ignored := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, impatient)
				back := make(chan struct{})
				s.stream = func(stream grpc.ServerStream) error {
					s.store(stream.Context(), "row")
					go s.back(back)
					err := wait(stream)
					s.wantSlow(stream.Context(), err)
					if ignored {
						if err := stream.SendMsg(&text{}); !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("sending returned %v", err)
						}
						return nil
					}
					return err
				}
				stream := s.open(chatMethod)
				<-back
				s.wantRows()
				if err := stream.SendMsg(wrapperspb.String("late")); err != nil {
					t.Error(err)
				}
				_, err := receive(stream)
				wantCode(t, err, codes.DeadlineExceeded)
				<-s.ended
				s.wantErrors(os.ErrDeadlineExceeded)
				s.wantIdle()
			})
		}
	}
}

func TestAClientThatStopsReadingLosesItsUnit(t *testing.T) {
	for name, begin := range map[string]func(*site, grpc.ServerStream){
		"rows are open": func(s *site, stream grpc.ServerStream) { s.query(stream.Context()) },
		"a transaction after the first message": func(s *site, stream grpc.ServerStream) {
			if err := stream.SendMsg(&text{}); err != nil {
				s.t.Error(err)
			}
			s.store(stream.Context(), "row")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, impatient, grpcscope.ReadOnly(func(grpcscope.Call) bool { return name == "rows are open" }))
			back := make(chan struct{})
			s.stream = func(stream grpc.ServerStream) error {
				begin(s, stream)
				go s.back(back)
				for {
					if err := stream.SendMsg(wrapperspb.String(strings.Repeat("x", 1000))); err != nil {
						s.wantSlow(stream.Context(), err)
						return nil // whatever the handler says
					}
				}
			}
			stream := s.open(watchMethod)
			<-back
			_, err := receive(stream)
			wantCode(t, err, codes.DeadlineExceeded)
			<-s.ended
			s.wantErrors(os.ErrDeadlineExceeded)
			s.wantRows()
		})
	}
}

func TestAClientMayTakeItsTimeWhileNoConnectionIsHeld(t *testing.T) {
	s := newSite(t, impatient)
	s.stream = func(stream grpc.ServerStream) error {
		for range 2 {
			if err := stream.RecvMsg(&text{}); err != nil {
				return err
			}
		}
		s.store(stream.Context(), "row")
		return stream.SendMsg(wrapperspb.String("stored"))
	}
	stream := s.open(chatMethod)
	for range 2 {
		time.Sleep(100 * time.Millisecond)
		if err := stream.SendMsg(&text{}); err != nil {
			t.Error(err)
		}
	}
	s.finish(stream, codes.OK, "stored")
	s.wantRows("row")
	s.wantErrors()
}
