package grpcscope_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

// lastToken sends the token that came last with the next call. A client that
// calls for several users has one for each.
type lastToken struct{ atomic.Pointer[string] }

func (last *lastToken) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if token := last.Load(); token != nil {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-writes", *token)
	}
	var trailer metadata.MD
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Trailer(&trailer))...)
	for _, token := range trailer.Get("x-writes") { // errors have one too
		last.Store(&token)
	}
	return err
}

// Methods that only read do so from replicas, but from none that lacks what the
// client itself has written.
func ExampleTokenMetadata() {
	key := []byte("32 random bytes from the secrets") // the same in every process
	nodes := cluster.New(cluster.List("10.0.0.1", "10.0.0.2", "10.0.0.3"), cluster.SignedBy(key))
	shop := sqlscope.Open("pgx", "postgres://app@{host}/shop", dbscope.Router(nodes))
	_ = shop // which the service's methods use

	options := []grpcscope.Option{
		grpcscope.ReadOnly(func(c grpcscope.Call) bool { return strings.Contains(c.FullMethod, "/Get") }),
		grpcscope.TokenMetadata("x-writes"),
	}
	grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcscope.UnaryServerInterceptor(options...)),
		grpc.ChainStreamInterceptor(grpcscope.StreamServerInterceptor(options...)),
	)

	// The other side.
	client, err := grpc.NewClient("orders.internal:8080",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(new(lastToken).intercept))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()
}
