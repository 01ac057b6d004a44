package grpcscope_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
	"github.com/dbscope/dbscope/scopetest"
)

// The hook is that of docs/testing.md, and serves calls of all kinds.
func TestCallsRunInATest(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	t.Run("in a test", func(t *testing.T) {
		testCtx := scopetest.Rollback(t, db)
		var committed []string
		work := func(ctx context.Context, row string) error {
			return errors.Join(drivertest.Exec(ctx, db, row), dbscope.AfterCommit(ctx, func(context.Context) error {
				committed = append(committed, row)
				return nil
			}))
		}
		_, address := listen(t, &orders{
			place: func(ctx context.Context, order *text) (*text, error) {
				if err := work(ctx, order.GetValue()); err != nil || order.GetValue() == "bad" {
					return nil, errors.Join(err, errInjected)
				}
				return order, nil
			},
			stream: func(ss grpc.ServerStream) error {
				return errors.Join(work(ss.Context(), "first"), ss.SendMsg(wrapperspb.String("one")), work(ss.Context(), "second"))
			},
		},
			grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
				return scopetest.Attach(ctx, testCtx), nil
			}),
			grpc.UnaryInterceptor(grpcscope.UnaryServerInterceptor()),
			grpc.StreamInterceptor(grpcscope.StreamServerInterceptor()))
		conn, err := dial(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		s := &site{ClientConn: conn, t: t}
		for order, fails := range map[string]bool{"good": false, "bad": true} {
			if err := conn.Invoke(t.Context(), placeMethod, wrapperspb.String(order), &text{}); fails != (err != nil) {
				t.Errorf("%s: the client got %v", order, err)
			}
		}
		if messages, err := receive(s.open(watchMethod)); len(messages) != 1 || !errors.Is(err, io.EOF) {
			t.Errorf("the client got %q, %v", messages, err)
		}
		if want := []string{"good", "first", "second"}; !slices.Equal(committed, want) {
			t.Errorf("committed were %q, want %q", committed, want)
		}
	})
	if rows := fake.Rows(); len(rows) != 0 {
		t.Errorf("after the test rows %q are stored", rows)
	}
	if n := strings.Count(strings.Join(fake.Log(), "\n"), "begin"); n != 1 || fake.Open() != 0 {
		t.Errorf("there were %d transactions, and %d connections are open", n, fake.Open())
	}
}
