package routertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// Where the middleware of a framework given to Run is to have the token. Its
// requests with a safe method are to be read-only.
const (
	Cookie = "writes"
	Header = "X-Writes"
)

// site is a framework's server on a fake database, and how to call it.
type site struct {
	caller
	t      *testing.T
	fake   *drivertest.Fake
	router *Router
	db     *dbscope.DB[*drivertest.Tx]
	errs   []error
}

// caller sends a request with a token in the header and in the cookie, where
// they are not empty, and returns the status and the tokens of the answer.
type caller struct {
	ask     func(t *testing.T, method, url, header, cookie string) (status int, tokens []string)
	trailer bool // the answer has them at its end, and there are no cookies
}

type exchange = middlewaretest.Exchange

var (
	errOnPurpose = errors.New("on purpose")
	errHandler   = errors.New("the handler's own")
)

// Run checks that the middleware carries tokens over HTTP: for each way in which
// a response begins, that it has the token of what was committed by then.
func Run(t *testing.T, f middlewaretest.Framework) { run(t, f, overHTTP) }

func run(t *testing.T, f middlewaretest.Framework, call caller) {
	for _, c := range []struct {
		name    string
		needs   middlewaretest.Ability
		prepare func(s *site)
		handler func(s *site, x exchange) error
		brought string
		status  int
		token   string // of the response
		trailer string // the one that a trailer has, where that is another
		errs    int
	}{
		{
			name: "a response that was held has the token",
			handler: func(s *site, x exchange) error {
				s.store(x, "row")
				return x.Write("stored")
			},
			status: 200, token: Token(1),
		}, {
			name:    "a response with nothing but its headers has the token",
			handler: func(s *site, x exchange) error { s.store(x, "row"); return nil },
			status:  200, token: Token(1),
		}, {
			name:  "a response that was flushed has the token of what was committed for that",
			needs: middlewaretest.Flush,
			handler: func(s *site, x exchange) error {
				s.store(x, "row")
				err := errors.Join(x.Write("stored"), x.Flush())
				s.store(x, "late")
				return err
			},
			status: 200, token: Token(1), trailer: Token(2),
		}, {
			name:  "what is written after the headers went out has a token in a trailer alone",
			needs: middlewaretest.Flush,
			handler: func(s *site, x exchange) error {
				err := errors.Join(x.Write("hello"), x.Flush())
				s.store(x, "late")
				return err
			},
			status: 200, trailer: Token(1),
		}, {
			name: "a response has the token of scopes under the request's",
			handler: func(s *site, x exchange) error {
				return dbscope.Run(x.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "row") })
			},
			status: 200, token: Token(1),
		}, {
			name:    "a response has the token of the newest commit",
			handler: func(s *site, x exchange) error { s.commit(x, "one"); s.store(x, "two"); return nil },
			status:  200, token: Token(2),
		}, {
			name: "a response has the token of what an after-hook committed",
			handler: func(s *site, x exchange) error {
				s.store(x, "one")
				return dbscope.AfterCommit(x.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "two") })
			},
			status: 200, token: Token(2),
		}, {
			name:    "the failure page after an unknown commit has the token of that",
			prepare: func(s *site) { s.failCommit(driver.Unknown) },
			handler: func(s *site, x exchange) error { s.store(x, "row"); return x.Write("stored") },
			status:  500, token: Unknown, errs: 1,
		}, {
			name:    "the failure page after a commit that failed has no token",
			prepare: func(s *site) { s.failCommit(driver.RolledBack) },
			handler: func(s *site, x exchange) error { s.store(x, "row"); return x.Write("stored") },
			status:  500, errs: 1,
		}, {
			name: "the failure page has the token of what was committed before",
			handler: func(s *site, x exchange) error {
				s.commit(x, "early")
				s.store(x, "row")
				s.failCommit(driver.RolledBack)
				return x.Write("stored")
			},
			status: 500, token: Token(1), errs: 1,
		}, {
			name:  "the failure page in place of a flush has the token",
			needs: middlewaretest.Flush,
			handler: func(s *site, x exchange) error {
				s.store(x, "row")
				s.failCommit(driver.Unknown)
				if err := x.Flush(); err == nil {
					s.t.Error("Flush returned nil")
				}
				return nil
			},
			status: 500, token: Unknown, errs: 1,
		}, {
			name:    "a refusal has no token",
			handler: func(s *site, x exchange) error { s.store(x, "row"); x.Status(409); return x.Write("no") },
			status:  409,
		}, {
			name: "a refusal has the token of what was committed before",
			handler: func(s *site, x exchange) error {
				s.commit(x, "early")
				s.store(x, "row")
				x.Status(409)
				return x.Write("no")
			},
			status: 409, token: Token(1),
		}, {
			name:    "the framework's answer to an error has the token of what was committed before",
			handler: func(s *site, x exchange) error { s.commit(x, "early"); s.store(x, "row"); return errHandler },
			status:  500, token: Token(1),
		}, {
			name: "and so where the handler had written a success",
			handler: func(s *site, x exchange) error {
				s.commit(x, "early")
				x.SetHeader("X-Handler", "yes")
				return errors.Join(x.Write("stored"), errHandler)
			},
			status: -1, token: Token(1), // net/http's handlers have no errors
		}, {
			name:    "the answer to a panic has the token of what was committed before",
			needs:   middlewaretest.Recover,
			handler: func(s *site, x exchange) error { s.commit(x, "early"); s.store(x, "row"); panic(errOnPurpose) },
			status:  500, token: Token(1),
		}, {
			name:    "a token that was brought is not sent back",
			handler: func(_ *site, x exchange) error { return x.Write("hello") },
			brought: Token(7), status: 200,
		}, {
			name:    "nor one that tells of more than was committed",
			handler: func(s *site, x exchange) error { s.store(x, "row"); return nil },
			brought: Token(7), status: 200,
		}, {
			name:    "one that tells of less is replaced",
			handler: func(s *site, x exchange) error { s.store(x, "row"); return nil },
			brought: Token(0), status: 200, token: Token(1),
		}, {
			name:    "one that is nonsense is replaced",
			handler: func(s *site, x exchange) error { s.store(x, "row"); return nil },
			brought: "nonsense%", status: 200, token: Token(1),
		}, {
			name:    "one that is too long is replaced",
			handler: func(s *site, x exchange) error { s.store(x, "row"); return nil },
			brought: strings.Repeat("A", 5000), status: 200, token: Token(1),
		}, {
			name:    "one that is nonsense is not sent back",
			handler: func(_ *site, x exchange) error { return x.Write("hello") },
			brought: "nonsense%", status: 200,
		}, {
			name:    "nor one that says the same in other words",
			handler: func(_ *site, x exchange) error { return x.Write("hello") },
			brought: sameInOtherWords(), status: 200,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why, lacks := f.Lacks[c.needs]; lacks {
				t.Skip(why)
			}
			s := newSite(t, call)
			url := s.serve(f, middlewaretest.Site{Handler: func(x exchange) error { return c.handler(s, x) }})
			if c.prepare != nil {
				c.prepare(s)
			}
			if call.trailer && c.trailer != "" {
				c.token = c.trailer
			}
			status := s.send(http.MethodPost, url, c.brought, "", c.token)
			if status != c.status && c.status > 0 {
				t.Errorf("the status is %d", status)
			}
			// What a handler returns is told where the framework would show it to the client.
			errs := slices.DeleteFunc(s.errs, func(err error) bool { return errors.Is(err, errHandler) })
			if len(errs) != c.errs {
				t.Errorf("the error hook was told %q", errs)
			}
		})
	}
	t.Run("a read-only request with a token reads what it tells of, and has none", func(t *testing.T) {
		s := newSite(t, call)
		url := s.serve(f, middlewaretest.Site{Handler: s.read})
		for _, c := range []struct{ header, cookie, host string }{
			{"", "", "replica"},
			{Token(1), "", "primary"},
			{"", Token(1), "primary"},
			{Token(0), Token(1), "replica"}, // the header wins
			{Token(1), Token(0), "primary"},
			{Unknown, "", "primary"},
			{"", Unknown, "primary"},
			{"forged", "", "replica"},
			{"", "%%%", "replica"},
			{"", strings.Repeat("A", 3000), "replica"},
			{Token(1)[:7], "", "replica"},
		} {
			if call.trailer && c.cookie != "" {
				continue
			}
			status := s.send(http.MethodGet, url, c.header, c.cookie, "")
			if hosts := s.router.Reads(); status != 200 || !slices.Equal(hosts, []string{c.host}) {
				t.Errorf("with the header %.20q and the cookie %.20q it read on %q, status %d", c.header, c.cookie, hosts, status)
			}
		}
	})
	t.Run("a request reads what it has committed before", func(t *testing.T) {
		s := newSite(t, call)
		url := s.serve(f, middlewaretest.Site{Handler: func(x exchange) error {
			s.commit(x, "row")
			return dbscope.Run(x.Context(), s.query, dbscope.ReadOnly())
		}})
		s.send(http.MethodPost, url, "", "", Token(1))
		if hosts := s.router.Reads(); !slices.Equal(hosts, []string{"primary"}) {
			t.Errorf("it read on %q", hosts)
		}
	})
	t.Run("a request whose context has a scope already is left to who began that", func(t *testing.T) {
		s := newSite(t, call)
		made := make(chan context.Context, 1)
		url := s.serve(f, middlewaretest.Site{
			Context: func(ctx context.Context) context.Context {
				ctx, _ = dbscope.Begin(dbscope.ReadYourWrites(ctx, Token(3)), dbscope.ReadOnly())
				made <- ctx
				return ctx
			},
			Handler: func(x exchange) error {
				return errors.Join(s.read(x), dbscope.Run(x.Context(), func(ctx context.Context) error {
					return drivertest.Exec(ctx, s.db, "row")
				}))
			},
		})
		s.send(http.MethodGet, url, Token(0), Token(0), "")
		if hosts := s.router.Reads(); !slices.Equal(hosts, []string{"primary"}) {
			t.Errorf("it read on %q", hosts)
		}
		outer := <-made
		if token := dbscope.WritesToken(outer); token != Token(3) {
			t.Errorf("who began the scope has the token %q", token)
		}
		if scope, ok := dbscope.FromContext(outer); !ok || scope.End(outer) != nil {
			t.Error("the scope is over")
		}
	})
}

// RunUnscoped checks that a middleware that gives no request a scope lets the
// token count for the scopes that the handler begins, and sets none.
func RunUnscoped(t *testing.T, f middlewaretest.Framework) { runUnscoped(t, f, overHTTP) }

func runUnscoped(t *testing.T, f middlewaretest.Framework, call caller) {
	s := newSite(t, call)
	url := s.serve(f, middlewaretest.Site{Handler: func(x exchange) error {
		if _, ok := dbscope.FromContext(x.Context()); ok {
			t.Error("there is a scope")
		}
		write := func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "row") }
		return errors.Join(dbscope.Run(x.Context(), s.query, dbscope.ReadOnly()), dbscope.Run(x.Context(), write), x.Write("hello"))
	}})
	for token, host := range map[string]string{"": "replica", Token(9): "primary"} {
		for _, c := range []struct{ header, cookie string }{{token, ""}, {"", token}} {
			if call.trailer && c.cookie != "" {
				continue
			}
			status := s.send(http.MethodGet, url, c.header, c.cookie, "")
			if hosts := s.router.Reads(); status != 200 || !slices.Equal(hosts, []string{host}) {
				t.Errorf("with the header %q and the cookie %q it read on %q, status %d", c.header, c.cookie, hosts, status)
			}
		}
	}
}

func newSite(t *testing.T, call caller) *site {
	s := &site{caller: call, t: t, fake: drivertest.NewFake()}
	s.router, s.db = New(t, s.fake)
	return s
}

func (s *site) serve(f middlewaretest.Framework, site middlewaretest.Site) string {
	site.Recovered = func(any) {}
	site.OnError = func(err error) { s.errs = append(s.errs, err) } // told before the response is sent
	return f.Serve(s.t, site)
}

// failCommit makes the next commit fail with the outcome.
func (s *site) failCommit(o driver.Outcome) {
	s.fake.Inject("commit", drivertest.Fault{Err: errOnPurpose, Outcome: o})
}

func (s *site) store(x exchange, row string) {
	if err := drivertest.Exec(x.Context(), s.db, row); err != nil {
		s.t.Errorf("storing %q: %v", row, err)
	}
}

// commit stores a row at once.
func (s *site) commit(x exchange, row string) {
	s.store(x, row)
	if err := s.db.Commit(x.Context()); err != nil {
		s.t.Error(err)
	}
}

func (s *site) read(x exchange) error { return s.query(x.Context()) }

func (s *site) query(ctx context.Context) error {
	tx, err := s.db.Session(ctx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "all")
	if err != nil {
		return err
	}
	return rows.Close()
}

// send sends a request and checks the token of the answer, whose status it
// returns.
func (s *site) send(method, url, header, cookie, token string) int {
	s.t.Helper()
	var want []string
	if token != "" {
		want = []string{token}
	}
	status, tokens := s.ask(s.t, method, url, header, cookie)
	if !slices.Equal(tokens, want) {
		s.t.Errorf("the answer has the tokens %q, want %q", tokens, want)
	}
	return status
}

// sameInOtherWords is a token whose last bits, which base64 ignores, are others.
func sameInOtherWords() string {
	token := Token(7)
	if got := fmt.Sprint(len(token) % 4); got == "0" {
		panic("all bits of the token count")
	}
	return token[:len(token)-1] + string(token[len(token)-1]+1)
}
