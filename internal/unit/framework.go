package unit

import "context"

// FrameworkKey is the key under which a framework's own context, used in the place of
// a request's context, has a [Framework]. It is a string since gin answers for no
// other keys.
const FrameworkKey = "github.com/dbscope/dbscope"

// Framework leads from a framework's own context to that of its request.
type Framework interface {
	// RequestContext returns that context, or an error which says what to pass instead.
	RequestContext() (context.Context, error)
}

// Value is the context's value for the key, or that of the context of the request
// whose framework's context it is.
func Value(ctx context.Context, key any) any {
	if v := ctx.Value(key); v != nil {
		return v
	}
	return frameworkValue(ctx, key)
}

func frameworkValue(ctx context.Context, key any) any {
	f, is := ctx.Value(FrameworkKey).(Framework)
	if !is {
		return nil
	}
	request, err := f.RequestContext()
	if err != nil {
		return nil
	}
	return request.Value(key)
}

// Refused says what to pass in place of a context that is a framework's own and must
// not be used for a request's; else it is nil.
func Refused(ctx context.Context) error {
	f, is := ctx.Value(FrameworkKey).(Framework)
	if !is {
		return nil
	}
	_, err := f.RequestContext()
	return err
}
