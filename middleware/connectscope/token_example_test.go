package connectscope_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

// lastToken sends the token that came last with the next call. A client that
// calls for several users has one for each.
type lastToken struct{ atomic.Pointer[string] }

func (last *lastToken) interceptor() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if token := last.Load(); token != nil {
				req.Header().Set("X-Writes", *token)
			}
			resp, err := next(ctx, req)
			var trailer http.Header
			if failed := new(connect.Error); errors.As(err, &failed) {
				trailer = failed.Meta() // errors have one too
			} else if err == nil {
				trailer = resp.Trailer()
			}
			if token := trailer.Get("X-Writes"); token != "" {
				last.Store(&token)
			}
			return resp, err
		}
	}
}

// Methods that only read do so from replicas, but from none that lacks what the
// client itself has written.
func ExampleTokenHeader() {
	key := []byte("32 random bytes from the secrets") // the same in every process
	nodes := cluster.New(cluster.List("10.0.0.1", "10.0.0.2", "10.0.0.3"), cluster.SignedBy(key))
	shop := sqlscope.Open("pgx", "postgres://app@{host}/shop", dbscope.Router(nodes))
	_ = shop // which the service's methods use

	connect.WithInterceptors(connectscope.Interceptor( // a handler's option
		connectscope.ReadOnly(func(c connectscope.Call) bool {
			return c.Spec.IdempotencyLevel == connect.IdempotencyNoSideEffects
		}),
		connectscope.TokenHeader("X-Writes"),
	))

	connect.WithInterceptors(new(lastToken).interceptor()) // a client's
}
