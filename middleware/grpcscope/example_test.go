package grpcscope_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

// A fake database stands for a real one; its statements store rows.
func Example() {
	fake := drivertest.NewFake()
	db := fake.DB()

	place := func(ctx context.Context, order string) error { // knows nothing of gRPC
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return tx.Exec(ctx, order)
	}

	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcscope.UnaryServerInterceptor()), // recovery and logging come before it
		grpc.ChainStreamInterceptor(grpcscope.StreamServerInterceptor()),
	)
	server.RegisterService(&description, &orders{ // generated code has a function for this
		place: func(ctx context.Context, order *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			if err := place(ctx, order.GetValue()); err != nil {
				return nil, status.Error(codes.Internal, "try again")
			}
			if order.GetValue() == "13" {
				return nil, status.Error(codes.FailedPrecondition, "not that one") // takes the order back
			}
			return wrapperspb.String("placed"), nil
		},
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.GracefulStop()

	client, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, order := range []string{"12", "13", "14"} {
		answer := new(wrapperspb.StringValue)
		err := client.Invoke(context.Background(), "/test.Orders/Place", wrapperspb.String(order), answer)
		fmt.Println("order", order, status.Code(err))
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 OK
	// order 13 FailedPrecondition
	// order 14 OK
	// stored [12 14]
}

// Methods that only read can send messages while they read rows.
func ExampleReadOnly() {
	reads := grpcscope.ReadOnly(func(c grpcscope.Call) bool {
		method := c.FullMethod[strings.LastIndexByte(c.FullMethod, '/')+1:]
		return strings.HasPrefix(method, "Get") || strings.HasPrefix(method, "List")
	})
	grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcscope.UnaryServerInterceptor(reads)),
		grpc.ChainStreamInterceptor(grpcscope.StreamServerInterceptor(reads)),
	)
}
