package dbscope

import (
	"context"

	"github.com/dbscope/dbscope/internal/writes"
)

// ReadYourWrites returns a context for a client that has to read what it has
// written. On a DB with the option [Router], a scope with [ReadOnly] under this
// context gets a replica only if the replica has everything that scopes under the
// context have committed before, and everything that the token stands for. The token
// is one of [WritesToken], or empty. One that is not valid, or has expired, is ignored.
// A call under such a context adds its token to that of the outer one. The
// middlewares call it for each request; a job calls it with the token that came with it.
func ReadYourWrites(ctx context.Context, token string) context.Context {
	return writes.With(ctx, token)
}

// WritesToken returns a token of everything that was committed under a context of
// [ReadYourWrites] so far, with what the token stands for that was given there. It is
// for the client's next request, or for a job. It is empty if nothing was committed.
// It does not block and is safe for concurrent use.
func WritesToken(ctx context.Context) string {
	w := writes.Of(ctx)
	if w == nil {
		return ""
	}
	return w.Token()
}
