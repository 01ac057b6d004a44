package connectscope_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

// A fake database stands for a real one; its statements store rows.
func Example() {
	fake := drivertest.NewFake()
	db := fake.DB()

	place := func(ctx context.Context, order string) error { // knows nothing of Connect
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		return tx.Exec(ctx, order)
	}

	mux := http.NewServeMux()
	mux.Handle("/test.Orders/Place", connect.NewUnaryHandler("/test.Orders/Place", // generated code has a function for this
		func(ctx context.Context, order *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.StringValue], error) {
			if err := place(ctx, order.Msg.GetValue()); err != nil {
				return nil, connect.NewError(connect.CodeInternal, errors.New("try again"))
			}
			if order.Msg.GetValue() == "13" {
				return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("not that one")) // takes the order back
			}
			return connect.NewResponse(wrapperspb.String("placed")), nil
		},
		connect.WithInterceptors(connectscope.Interceptor()))) // recovery and logging come before it
	server := httptest.NewServer(mux)
	defer server.Close()

	client := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](server.Client(), server.URL+"/test.Orders/Place")
	for _, order := range []string{"12", "13", "14"} {
		answer, err := client.CallUnary(context.Background(), connect.NewRequest(wrapperspb.String(order)))
		if err != nil {
			fmt.Println("order", order, connect.CodeOf(err))
			continue
		}
		fmt.Println("order", order, answer.Msg.GetValue())
	}
	fmt.Println("stored", fake.Rows())
	// Output:
	// order 12 placed
	// order 13 failed_precondition
	// order 14 placed
	// stored [12 14]
}

// Methods that the protobuf file says have no side effects can send messages
// while they read rows.
func ExampleReadOnly() {
	connectscope.Interceptor(connectscope.ReadOnly(func(c connectscope.Call) bool {
		return c.Spec.IdempotencyLevel == connect.IdempotencyNoSideEffects
	}))
}
