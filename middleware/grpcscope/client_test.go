package grpcscope_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

func TestACallOfAnotherServiceInATransactionIsTold(t *testing.T) {
	service := &orders{
		place:  func(context.Context, *text) (*text, error) { return wrapperspb.String("placed"), nil },
		stream: func(grpc.ServerStream) error { return nil },
	}
	_, address := listen(t, service)
	client, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(grpcscope.UnaryClientInterceptor()), grpc.WithStreamInterceptor(grpcscope.StreamClientInterceptor()))
	check.OK(t, err)
	defer func() { check.OK(t, client.Close()) }()
	told := &observetest.Calls{}
	db := drivertest.NewFake().DB(dbscope.Observe(told))
	calls := func(ctx context.Context) {
		check.OK(t, client.Invoke(ctx, placeMethod, wrapperspb.String("order"), &text{}))
		stream, err := client.NewStream(ctx, &description.Streams[2], chatMethod)
		check.OK(t, err)
		_, _ = receive(stream)
	}
	check.OK(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		calls(ctx)
		check.Equal(t, "called before the first statement", told.Take())
		check.OK(t, drivertest.Exec(ctx, db, "row"))
		calls(ctx)
		check.Equal(t, "called in the transaction", told.Take(), placeMethod, chatMethod)
		return nil
	}))
}
