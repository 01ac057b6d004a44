package connectscope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/middleware/connectscope"
)

// masked are errors of handlers, and what their clients get of them.
var masked = map[string]struct {
	err  error
	code connect.Code
	text string
	told bool // to the error hook
}{
	"any error":                {errInjected, connect.CodeInternal, "internal error", true},
	"a cancellation":           {fmt.Errorf("%w: %w", errInjected, context.Canceled), connect.CodeCanceled, "context canceled", true},
	"a deadline":               {fmt.Errorf("%w: %w", errInjected, context.DeadlineExceeded), connect.CodeDeadlineExceeded, "context deadline exceeded", true},
	"Connect's own error":      {refuse(connect.CodeNotFound, "no order"), connect.CodeNotFound, "no order", false},
	"one that wraps it":        {fmt.Errorf("%w: %w", errInjected, refuse(connect.CodeNotFound, "none")), connect.CodeNotFound, "none", false},
	"an error for the clients": {errShown, connect.CodeUnknown, errShown.Error(), false},
}

var errShown = errors.New("sold out")

func shown(err error) bool { return errors.Is(err, errShown) }

func TestAnErrorWithoutACodeTellsItsClientNothing(t *testing.T) {
	for name, c := range masked {
		for _, scoped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a unit %t", name, scoped), func(t *testing.T) {
				s := newSite(t, connectscope.ShowErrors(shown), connectscope.Unscoped(func(connectscope.Call) bool { return !scoped }))
				s.place = func(context.Context, *connect.Request[text]) (*connect.Response[text], error) { return nil, c.err }
				s.watch = watches(func(context.Context, *connect.ServerStream[text]) error { return c.err })
				var errs []error
				for _, protocol := range []connect.ClientOption{connect.WithClientOptions(), connect.WithGRPC(), connect.WithGRPCWeb()} {
					_, err := s.send(protocol)
					errs = append(errs, err)
				}
				_, err := s.receive()
				for _, err := range append(errs, err) {
					wantCode(t, err, c.code)
					if got := new(connect.Error); !errors.As(err, &got) || got.Message() != c.text {
						t.Errorf("the client was told %q, want %q", got.Message(), c.text)
					}
				}
				if c.told {
					s.wantErrors(c.err, c.err, c.err, c.err)
				} else {
					s.wantErrors()
				}
			})
		}
	}
}

func TestInterceptorsOutsideFindTheCauseOfAnErrorThatTellsNothing(t *testing.T) {
	_, err := around(t.Context(), func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) {
		return nil, errInjected
	}, connectscope.OnError(func(connectscope.Call, error) {}))
	if !errors.Is(err, errInjected) {
		t.Errorf("outside the error is %v", err)
	}
	wantCode(t, fmt.Errorf("wrapped: %w", err), connect.CodeInternal)
}
