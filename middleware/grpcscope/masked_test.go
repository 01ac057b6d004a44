package grpcscope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

// masked are errors of handlers, and what their clients get of them.
var masked = map[string]struct {
	err  error
	code codes.Code
	text string
	told bool // to the error hook
}{
	"any error":                {errInjected, codes.Internal, "internal error", true},
	"a cancellation":           {fmt.Errorf("%w: %w", errInjected, context.Canceled), codes.Canceled, "context canceled", true},
	"a deadline":               {fmt.Errorf("%w: %w", errInjected, context.DeadlineExceeded), codes.DeadlineExceeded, "context deadline exceeded", true},
	"a status that is none":    {notAnError{errInjected}, codes.Internal, "internal error", true},
	"a status":                 {status.Error(codes.NotFound, "no order"), codes.NotFound, "no order", false},
	"an error with a status":   {fmt.Errorf("order 7: %w", status.Error(codes.NotFound, "none")), codes.NotFound, "order 7: rpc error: code = NotFound desc = none", false},
	"an error for the clients": {errShown, codes.Unknown, errShown.Error(), false},
}

var errShown = errors.New("sold out")

func shown(err error) bool { return errors.Is(err, errShown) }

func TestAnErrorWithoutAStatusTellsItsClientNothing(t *testing.T) {
	for name, c := range masked {
		for _, scoped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a unit %t", name, scoped), func(t *testing.T) {
				s := newSite(t, grpcscope.ShowErrors(shown), grpcscope.Unscoped(func(grpcscope.Call) bool { return !scoped }))
				s.place = func(context.Context, *text) (*text, error) { return nil, c.err }
				s.stream = func(grpc.ServerStream) error { return c.err }
				_, unary := s.send()
				_, stream := receive(s.open(watchMethod))
				<-s.ended
				for _, err := range []error{unary, stream} {
					wantCode(t, err, c.code)
					if got := status.Convert(err).Message(); got != c.text {
						t.Errorf("the client was told %q, want %q", got, c.text)
					}
				}
				if c.told {
					s.wantErrors(c.err, c.err)
				} else {
					s.wantErrors()
				}
			})
		}
	}
}

func TestInterceptorsOutsideFindTheCauseOfAnErrorThatTellsNothing(t *testing.T) {
	between := grpcscope.UnaryServerInterceptor(grpcscope.OnError(func(grpcscope.Call, error) {}))
	_, err := between(t.Context(), "", &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, errInjected })
	if !errors.Is(err, errInjected) {
		t.Errorf("outside the error is %v", err)
	}
	wantCode(t, fmt.Errorf("wrapped: %w", err), codes.Internal)
}

func TestTheErrorsOfACancelledCallAreNotReported(t *testing.T) {
	s := newSite(t)
	began := make(chan struct{})
	s.place = func(ctx context.Context, _ *text) (*text, error) {
		close(began)
		<-ctx.Done()
		return nil, drivertest.Exec(ctx, s.db, "row")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	err := s.Invoke(ctx, placeMethod, &text{}, &text{})
	wantCode(t, err, codes.Canceled)
	<-s.ended
	s.wantErrors()
}
