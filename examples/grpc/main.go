// Grpc is a small shop over gRPC, where each call is one transaction:
//
//	go run ./examples/grpc
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/grpc
//
// This file is the part of gRPC. The rest, shop.go, knows nothing of calls; go
// generate makes package shoppb of shop.proto.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/dbscope/dbscope/examples/grpc/shoppb"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-grpc.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	log.Fatal(newServer(s).Serve(listener))
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it is refused:
  alias grpcurl='go run github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 -plaintext'
  grpcurl -d '{"customer": "ada", "sku": "tea", "quantity": 2}' %[1]s shop.v1.Shop/PlaceOrder
  grpcurl -d '{"customer": "ada", "sku": "last-cup", "quantity": 1}' %[1]s shop.v1.Shop/PlaceOrder
  grpcurl -d '{"customer": "bob", "sku": "last-cup", "quantity": 1}' %[1]s shop.v1.Shop/PlaceOrder
  grpcurl %[1]s shop.v1.Shop/ListOrders
`

func newServer(s *shop, opts ...grpc.ServerOption) *grpc.Server {
	// On SQLite a call that only reads takes no write lock.
	reads := grpcscope.ReadOnly(func(c grpcscope.Call) bool {
		return c.FullMethod == shoppb.Shop_ListOrders_FullMethodName
	})
	// All there is to say about transactions: a response commits, and is sent after
	// that; an error rolls back. Interceptors that log or recover come before these.
	opts = append(opts,
		grpc.ChainUnaryInterceptor(grpcscope.UnaryServerInterceptor(reads)),
		grpc.ChainStreamInterceptor(grpcscope.StreamServerInterceptor(reads)),
	)
	server := grpc.NewServer(opts...)
	shoppb.RegisterShopServer(server, service{shop: s})
	reflection.Register(server) // grpcurl asks for it
	return server
}

type service struct {
	shoppb.UnimplementedShopServer
	shop *shop
}

func (s service) PlaceOrder(ctx context.Context, req *shoppb.PlaceOrderRequest) (*shoppb.Order, error) {
	o, err := s.shop.place(ctx, order{Customer: req.GetCustomer(), SKU: req.GetSku(), Quantity: int(req.GetQuantity())})
	if err != nil {
		return nil, failure(err)
	}
	return message(o), nil
}

func (s service) ListOrders(ctx context.Context, _ *shoppb.ListOrdersRequest) (*shoppb.ListOrdersResponse, error) {
	orders, err := s.shop.list(ctx)
	if err != nil {
		return nil, failure(err)
	}
	resp := &shoppb.ListOrdersResponse{}
	for _, o := range orders {
		resp.Orders = append(resp.Orders, message(o))
	}
	return resp, nil
}

func message(o order) *shoppb.Order {
	return &shoppb.Order{Id: o.ID, Customer: o.Customer, Sku: o.SKU, Quantity: int32(o.Quantity)}
}

// failure tells the client what it may know. Of any other error it gets a plain
// Internal, and the log the rest.
func failure(err error) error {
	switch {
	case errors.Is(err, errInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, errOutOfStock):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return err
}
