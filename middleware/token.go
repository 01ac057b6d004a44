package middleware

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/dbscope/dbscope"
)

// ReadYourWrites makes the request's context one of [dbscope.ReadYourWrites],
// with the token that the request has brought, and reports whether it did: not
// without the field Token, nor where the context has a scope already, whose
// maker is in charge of that too. It is for once a request, before Scoped, also
// where that turns out to be false: then the token counts for the scopes that
// the handler begins itself.
func (p *Policy[R]) ReadYourWrites(ctx context.Context, r R) (context.Context, bool) {
	if p.Token == nil {
		return ctx, false
	}
	if _, scoped := dbscope.FromContext(ctx); scoped {
		return ctx, false
	}
	ctx = dbscope.ReadYourWrites(ctx, p.Token(r))
	return context.WithValue(ctx, broughtKey{}, dbscope.WritesToken(ctx)), true
}

// broughtKey leads to what of the request's token counts.
type broughtKey struct{}

// NewToken returns the token that the response is to carry, or "" for none:
// where nothing was committed that the request's token did not tell of already.
// It is for the moment at which the response's headers go out, after Decide,
// whatever came of that: a commit whose outcome is unknown has a token too, with
// which the client reads from the host that knows. ctx is the handler's. It does
// not block.
func (p *Policy[R]) NewToken(ctx context.Context) string {
	if p.Token == nil {
		return ""
	}
	token := dbscope.WritesToken(ctx)
	if token == ctx.Value(broughtKey{}) {
		return ""
	}
	return token
}

// TokenInTrailer carries the tokens of calls in metadata of that name, for
// [RPC]: of returns the token that a call has brought, like the field Token,
// which it sets; put adds one to the trailer of the answer, which may be an
// error's, and is called at most once a call, when all that the call commits is
// committed. It panics where there can be no metadata of that name in both gRPC
// and Connect.
func (p *Policy[R]) TokenInTrailer(name string, of func(r R) string, put func(r R, token string)) {
	lower := strings.ToLower(name)
	if lower == "" || strings.Trim(lower, metadataBytes) != "" || strings.HasSuffix(lower, "-bin") ||
		strings.HasPrefix(lower, "grpc-") || strings.HasPrefix(lower, "connect-") {
		panic(fmt.Sprintf("dbscope: there can be no metadata %q for the token", name))
	}
	p.Token, p.putToken = of, put
}

// metadataBytes are what gRPC allows in names. It keeps some names to itself, as
// Connect does, and takes those with -bin for encoded ones.
const metadataBytes = "0123456789abcdefghijklmnopqrstuvwxyz_.-"

// HTTPToken says where HTTP has the token: in a cookie, in a header of requests
// and responses, or in both. The zero value is nowhere. Once it is set up it is
// safe for concurrent use.
type HTTPToken struct {
	cookie *http.Cookie
	header string
}

// tokenSeconds is for how long a token is worth something.
const tokenSeconds = 30

// InCookie puts the token into a cookie like the template, which needs a name.
// Path is "/" and SameSite Lax where it does not say; Value, MaxAge, Expires and
// HttpOnly are not the template's to say. It panics where there can be no such
// cookie.
func (t *HTTPToken) InCookie(template http.Cookie) {
	c := http.Cookie{
		Name: template.Name, Path: template.Path, Domain: template.Domain, Secure: template.Secure,
		SameSite: template.SameSite, Partitioned: template.Partitioned, MaxAge: tokenSeconds, HttpOnly: true,
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.SameSite == 0 {
		c.SameSite = http.SameSiteLaxMode
	}
	if err := c.Valid(); err != nil {
		panic(fmt.Sprintf("dbscope: the cookie for the token: %v", err))
	}
	t.cookie = &c
}

// InHeader puts the token into the header of that name. It panics where there
// can be no such header.
func (t *HTTPToken) InHeader(name string) {
	if (&http.Cookie{Name: name}).Valid() != nil { // names of both are tokens of RFC 9110
		panic(fmt.Sprintf("dbscope: there can be no header %q for the token", name))
	}
	t.header = name
}

// Of returns the token of a request, whose headers and cookies the functions
// return, or "" for none. The header's wins.
func (t *HTTPToken) Of(header, cookie func(name string) string) string {
	if t.header != "" {
		if token := header(t.header); token != "" {
			return token
		}
	}
	if t.cookie != nil {
		return cookie(t.cookie.Name)
	}
	return ""
}

// Put gives a response the token, with functions that set and add headers.
func (t *HTTPToken) Put(token string, set, add func(name, value string)) {
	if t.header != "" {
		set(t.header, token)
	}
	if t.cookie != nil {
		c := *t.cookie
		c.Value = token
		add("Set-Cookie", c.String())
	}
}

// putToken is for the end, when all that the call commits is committed. The
// trailer still takes it then, whatever was sent before.
func (u *Unit[R]) putToken() {
	if put := u.rpc.policy.putToken; put != nil {
		if token := u.rpc.policy.NewToken(u.Context); token != "" {
			put(u.request, token)
		}
	}
}
