package main

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/dbscope/dbscope/examples/grpc/shoppb"
	"github.com/dbscope/dbscope/examples/internal/shoptest"
	"github.com/dbscope/dbscope/scopetest"
)

func TestMain(m *testing.M) { shoptest.Main(m, main) }

// The shop is tested twice on one database, by the same questions. The first
// time everything is one transaction that is rolled back, which is fast and
// leaves the database as it was; the second time is as in production.
func TestAnOrderIsStoredWholeOrNotAtAll(t *testing.T) {
	shoptest.Databases(t, func(t *testing.T, dsn string) {
		s, err := openShop(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.db.Close() })
		t.Run("in a transaction that is rolled back", func(t *testing.T) {
			ctx := scopetest.Rollback(t, s.db)
			// gRPC makes the contexts of calls itself: a tap brings them into the test.
			inTest := grpc.InTapHandle(func(call context.Context, _ *tap.Info) (context.Context, error) {
				return scopetest.Attach(call, ctx), nil
			})
			shoptest.Check(t, dial(t, serve(t, newServer(s, inTest))))
			if n := scopetest.Count(ctx, s.db, "orders"); n != shoptest.Placed {
				t.Errorf("the test sees %d orders, want %d", n, shoptest.Placed)
			}
		})
		shoptest.CheckStored(t, dsn, 0)
		t.Run("with real commits", func(t *testing.T) {
			shoptest.Check(t, dial(t, serve(t, newServer(s))))
		})
		shoptest.CheckStored(t, dsn, shoptest.Placed)
	})
}

func TestTheProgramServesWhatItSays(t *testing.T) {
	shoptest.Check(t, dial(t, shoptest.Start(t).Addr))
}

// serve returns the server's address.
func serve(t *testing.T, server *grpc.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.GracefulStop)
	return listener.Addr().String()
}

func dial(t *testing.T, addr string) shoptest.Client {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client{shoppb.NewShopClient(conn)}
}

// client is a [shoptest.Client].
type client struct{ shoppb.ShopClient }

func (c client) Place(ctx context.Context, customer, sku string, quantity int) (shoptest.Order, error) {
	o, err := c.PlaceOrder(ctx, &shoppb.PlaceOrderRequest{Customer: customer, Sku: sku, Quantity: int32(quantity)})
	switch status.Code(err) {
	case codes.FailedPrecondition:
		err = shoptest.ErrRefused
	case codes.InvalidArgument:
		err = shoptest.ErrInvalid
	}
	return shown(o), err
}

func (c client) Orders(ctx context.Context) (all []shoptest.Order, err error) {
	resp, err := c.ListOrders(ctx, &shoppb.ListOrdersRequest{})
	for _, o := range resp.GetOrders() {
		all = append(all, shown(o))
	}
	return all, err
}

func shown(o *shoppb.Order) shoptest.Order {
	return shoptest.Order{ID: o.GetId(), Customer: o.GetCustomer(), SKU: o.GetSku(), Quantity: int(o.GetQuantity())}
}
