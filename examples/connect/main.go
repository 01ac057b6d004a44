// Connect is a small shop on Connect, where each call is one transaction:
//
//	go run ./examples/connect
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/connect
//
// This file is the part of Connect. The rest, shop.go, knows nothing of calls; go
// generate makes package shoppb of shop.proto.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/examples/connect/shoppb"
	"github.com/dbscope/dbscope/examples/connect/shoppb/shoppbconnect"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate

func main() {
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	dsn := cmp.Or(os.Getenv("DATABASE_URL"), filepath.Join(os.TempDir(), "dbscope-connect.db"))
	s, err := openShop(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(help, addr)
	both := new(http.Protocols) // so that clients of gRPC can call, too
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: addr, Handler: newHandler(s), Protocols: both}
	log.Fatal(server.ListenAndServe())
}

const help = `Try, in another terminal. There is one last cup, so that the second who asks for it is refused:
  curl -i http://%[1]s/shop.v1.Shop/PlaceOrder --json '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i http://%[1]s/shop.v1.Shop/PlaceOrder --json '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/shop.v1.Shop/PlaceOrder --json '{"customer": "bob", "sku": "last-cup", "quantity": 1}'
  curl -i http://%[1]s/shop.v1.Shop/ListOrders --json '{}'
`

func newHandler(s *shop) http.Handler {
	// On SQLite a call that only reads takes no write lock: shop.proto says which.
	reads := connectscope.ReadOnly(func(c connectscope.Call) bool {
		return c.Spec.IdempotencyLevel == connect.IdempotencyNoSideEffects
	})
	mux := http.NewServeMux()
	// All there is to say about transactions: a response commits, and is sent after
	// that; an error rolls back. Interceptors that log come before this one.
	mux.Handle(shoppbconnect.NewShopHandler(service{s}, connect.WithInterceptors(connectscope.Interceptor(reads))))
	return mux
}

type service struct{ shop *shop }

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
// CodeInternal, and the log the rest.
func failure(err error) error {
	switch {
	case errors.Is(err, errInvalid):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, errOutOfStock):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return err
}
