package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/examples/connect/shoppb"
	"github.com/dbscope/dbscope/examples/connect/shoppb/shoppbconnect"
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
			server := scopetest.Serve(t, newHandler(s), s.db)
			shoptest.Check(t, newClient(server.URL))
			if n := scopetest.Count(server.Context, s.db, "orders"); n != shoptest.Placed {
				t.Errorf("the test sees %d orders, want %d", n, shoptest.Placed)
			}
		})
		shoptest.CheckStored(t, dsn, 0)
		t.Run("with real commits", func(t *testing.T) {
			server := httptest.NewServer(newHandler(s))
			t.Cleanup(server.Close)
			shoptest.Check(t, newClient(server.URL))
		})
		shoptest.CheckStored(t, dsn, shoptest.Placed)
	})
}

func TestTheProgramServesWhatItSays(t *testing.T) {
	program := shoptest.Start(t)
	program.CheckCurl(t, "200", "200", "400", "200")
}

func TestClientsOfGRPCCanCallTheProgram(t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	http2 := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	t.Cleanup(http2.CloseIdleConnections)
	program := shoptest.Start(t)
	shoptest.Check(t, client{shoppbconnect.NewShopClient(http2, "http://"+program.Addr, connect.WithGRPC())})
}

func newClient(url string) shoptest.Client {
	return client{shoppbconnect.NewShopClient(http.DefaultClient, url)}
}

// client is a [shoptest.Client].
type client struct{ shoppbconnect.ShopClient }

func (c client) Place(ctx context.Context, customer, sku string, quantity int) (shoptest.Order, error) {
	o, err := c.PlaceOrder(ctx, &shoppb.PlaceOrderRequest{Customer: customer, Sku: sku, Quantity: int32(quantity)})
	if err != nil {
		switch connect.CodeOf(err) {
		case connect.CodeFailedPrecondition:
			err = shoptest.ErrRefused
		case connect.CodeInvalidArgument:
			err = shoptest.ErrInvalid
		}
		return shoptest.Order{}, err
	}
	return shown(o), nil
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
