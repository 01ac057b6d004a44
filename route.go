package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/writes"
)

// ReadYourWrites returns a context under which scopes with [ReadOnly] see what
// scopes under it have committed before, and what the token tells of, which is
// one of [WritesToken] or empty: on a DB with the option [Router] they get a
// replica only if it has come that far. A token that is not valid, or not any
// more, is ignored. Under such a context another one is a part of it, and where
// it comes with no token of its own keeps the outer one's. Middlewares do it for
// each request; a job does it with the token that came with it.
func ReadYourWrites(ctx context.Context, token string) context.Context {
	return writes.With(ctx, token)
}

// WritesToken returns a token of what has been committed under a context of
// [ReadYourWrites] so far, the token given to that included: for the client's
// next request, or for a job. It is empty where nothing was. It does not block
// and is safe for concurrent use.
func WritesToken(ctx context.Context) string {
	w := writes.Of(ctx)
	if w == nil {
		return ""
	}
	return w.Token()
}
