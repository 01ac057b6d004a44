package connectscope_test

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/observetest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

func TestACallOfAnotherServiceInATransactionIsTold(t *testing.T) {
	other := newSite(t)
	other.place = func(context.Context, *connect.Request[text]) (*connect.Response[text], error) {
		return response("placed"), nil
	}
	other.chat = func(context.Context, *connect.BidiStream[text, text]) error { return nil }
	told := &observetest.Calls{}
	db := drivertest.NewFake().DB(dbscope.Observe(told))
	option := connect.WithInterceptors(connectscope.ClientInterceptor())
	calls := func(ctx context.Context) {
		_, err := other.client(placeMethod, option).CallUnary(ctx, request("order"))
		check.OK(t, err)
		stream := other.client(chatMethod, option).CallBidiStream(ctx)
		check.OK(t, stream.CloseRequest())
		check.OK(t, stream.CloseResponse())
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
