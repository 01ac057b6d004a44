package httpscope_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

const tokenHeader = "X-Writes"

// route gives the site a router, and returns it.
func (s *site) route() *routertest.Router {
	s.t.Helper()
	var r *routertest.Router
	r, s.db = routertest.New(s.t, s.fake)
	return r
}

// A response that grows too large begins before the handler returns.
func TestAResponseThatPassesTheLimitHasTheTokenOfWhatWasCommittedForThat(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"Write":    func(w io.Writer) error { _, err := w.Write([]byte("much too large")); return err },
		"ReadFrom": func(w io.Writer) error { _, err := io.Copy(w, strings.NewReader("much too large")); return err },
	} {
		s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
			s.store(r.Context(), "row")
			if err := write(w); err != nil {
				t.Error(err)
			}
			s.store(r.Context(), "late")
		}, httpscope.HoldLimit(4), httpscope.TokenHeader(tokenHeader))
		s.route()
		resp := s.response(http.MethodPost)
		s.want(resp.StatusCode, s.read(resp), 200, "much too large")
		s.wantTokens(name, resp.Header, routertest.Token(1))
	}
}

func (s *site) wantTokens(what string, h http.Header, want ...string) {
	s.t.Helper()
	if got := h.Values(tokenHeader); !slices.Equal(got, want) {
		s.t.Errorf("%s: the response has the tokens %q, want %q", what, got, want)
	}
}

func TestTrailersGoWithAToken(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		w.Header().Set("Trailer", "X-Last")
		_, _ = io.WriteString(w, "stored")
		w.Header().Set("X-Last", "1")
		w.Header().Set("X-Too-Late", "1")
	}, httpscope.TokenHeader(tokenHeader))
	s.route()
	resp := s.response(http.MethodPost)
	s.want(resp.StatusCode, s.read(resp), 200, "stored")
	s.wantTokens("trailers", resp.Header, routertest.Token(1))
	if resp.Trailer.Get("X-Last") != "1" || resp.Header.Get("X-Too-Late") != "" {
		t.Errorf("headers %v, trailers %v", resp.Header, resp.Trailer)
	}
}

func TestTheResponseToAnUpgradeHasTheToken(t *testing.T) {
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "shouting")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = rw.WriteString("HELLO\n")
		if err = errors.Join(err, rw.Flush(), conn.Close()); err != nil {
			t.Error(err)
		}
	}, httpscope.TokenHeader(tokenHeader))
	s.route()
	resp := s.response(http.MethodPost)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != 101 || line != "HELLO\n" {
		t.Errorf("the client got %d %q, %v", resp.StatusCode, line, err)
	}
	s.wantTokens("upgrade", resp.Header, routertest.Token(1))
}

// Of an attempt that was undone nothing is told, but what it committed on its
// own stays.
func TestTheResponseOfALaterAttemptHasTheTokenOfAllThatWasCommitted(t *testing.T) {
	for _, c := range []struct {
		alone  bool // the first two attempts committed something
		status int  // of the third
		token  string
	}{
		{false, 200, routertest.Token(1)},
		{true, 200, routertest.Token(3)},
		{true, 409, routertest.Token(2)},
	} {
		attempts := 0
		s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
			attempts++
			s.store(r.Context(), "row")
			if attempts == 3 {
				w.WriteHeader(c.status)
				return
			}
			if c.alone {
				s.commitAndRead(r.Context())
			}
			s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		}, httpscope.Retry(quickly, 10), httpscope.TokenHeader(tokenHeader), httpscope.TokenCookie(http.Cookie{Name: "writes"}))
		router := s.route()
		resp, body := s.post(strings.NewReader("row"))
		s.want(resp.StatusCode, body, c.status, "")
		s.wantTokens("retry", resp.Header, c.token)
		if cookies := resp.Cookies(); len(cookies) != 1 || cookies[0].Value != c.token {
			t.Errorf("the cookies are %v, want %s", cookies, c.token)
		}
		if hosts := router.Reads(); slices.Contains(hosts, "replica") || c.alone != (len(hosts) > 0) {
			t.Errorf("it read on %q", hosts)
		}
	}
}

// commitAndRead does both in units of their own.
func (s *site) commitAndRead(ctx context.Context) {
	s.t.Helper()
	err := errors.Join(
		dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "alone") }),
		dbscope.Run(ctx, func(ctx context.Context) error { return s.query(ctx).Close() }, dbscope.ReadOnly()),
	)
	if err != nil {
		s.t.Error(err)
	}
}

// A part of the unit is committed, the rest not.
func TestTheFailurePageHasTheTokenOfTheDatabaseThatCommitted(t *testing.T) {
	other := drivertest.NewFake()
	otherDB := other.DB()
	other.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	s := newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		s.store(r.Context(), "row")
		if err := drivertest.Exec(r.Context(), otherDB, "row"); err != nil {
			t.Error(err)
		}
	}, httpscope.TokenHeader(tokenHeader), httpscope.FailurePage(func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	s.route()
	resp := s.response(http.MethodPost)
	s.want(resp.StatusCode, s.read(resp), 503, "")
	s.wantTokens("failure page", resp.Header, routertest.Token(1))
}

func TestAFrameworksAnswerToAnErrorHasTheTokenOfWhatWasCommittedBefore(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"nothing was written": func(http.ResponseWriter) {},
		"a success was held":  func(w http.ResponseWriter) { _, _ = io.WriteString(w, "stored") },
		"a failure was held":  func(w http.ResponseWriter) { w.WriteHeader(409) },
	} {
		s := prepare(t)
		s.route()
		outer := httptest.NewRecorder()
		err := adapt(s, outer, func(w http.ResponseWriter, r *http.Request) error {
			s.store(r.Context(), "early")
			if err := s.db.Commit(r.Context()); err != nil {
				t.Error(err)
			}
			answer(w)
			return errHandler
		}, httpscope.TokenHeader(tokenHeader))
		if !errors.Is(err, errHandler) {
			t.Errorf("%s: Serve returned %v", name, err)
		}
		s.wantTokens(name, outer.Header(), routertest.Token(1))
	}
}

// Its token counts, but there is nobody to set one.
func TestAnUnscopedRequestReadsWhatItsTokenTellsOf(t *testing.T) {
	for token, host := range map[string]string{"": "replica", routertest.Token(1): "primary"} {
		s := prepare(t)
		router := s.route()
		outer := httptest.NewRecorder()
		mux := http.NewServeMux()
		mux.HandleFunc("/{path...}", func(w http.ResponseWriter, r *http.Request) {
			if w != http.ResponseWriter(outer) {
				t.Errorf("the handler got %T", w)
			}
			if _, ok := dbscope.FromContext(r.Context()); ok {
				t.Error("there is a scope")
			}
			read := func(ctx context.Context) error { return s.query(ctx).Close() }
			write := func(ctx context.Context) error { return drivertest.Exec(ctx, s.db, "row") }
			if err := errors.Join(dbscope.Run(r.Context(), read, dbscope.ReadOnly()), dbscope.Run(r.Context(), write)); err != nil {
				t.Error(err)
			}
			if got := dbscope.WritesToken(r.Context()); got != routertest.Token(1) {
				t.Errorf("the handler finds the token %q", got)
			}
		})
		r := newRequest(t, http.MethodGet)
		r.Header.Set(tokenHeader, token)
		httpscope.Middleware(httpscope.TokenHeader(tokenHeader), httpscope.Unscoped(func(*http.Request) bool { return true }))(mux).ServeHTTP(outer, r)
		if hosts := router.Reads(); !slices.Equal(hosts, []string{host}) {
			t.Errorf("with the token %q it read on %q", token, hosts)
		}
		s.wantTokens("unscoped", outer.Header())
		if r.Pattern != "/{path...}" {
			t.Errorf("middlewares outside see the pattern %q", r.Pattern)
		}
	}
}

func TestARequestWhoseContextHasAScopeIsPassedOnUntouchedWithTokensToo(t *testing.T) {
	s := prepare(t)
	outer := httptest.NewRecorder()
	ctx, scope := dbscope.Begin(t.Context())
	defer func() { _ = scope.End(ctx) }()
	r := newRequest(t, http.MethodGet).WithContext(ctx)
	s.wrap(func(w http.ResponseWriter, got *http.Request) {
		if w != http.ResponseWriter(outer) || got != r {
			t.Errorf("the handler got %T and another request", w)
		}
	}, httpscope.TokenHeader(tokenHeader)).ServeHTTP(outer, r)
}

func TestAMiddlewareWithinAnotherLeavesTheTokenToThatOne(t *testing.T) {
	s := prepare(t)
	s.route()
	with := []httpscope.Option{httpscope.TokenHeader(tokenHeader), httpscope.TokenCookie(http.Cookie{Name: "writes"})}
	inner := s.wrap(func(_ http.ResponseWriter, r *http.Request) { s.store(r.Context(), "row") }, with...)
	outer := httptest.NewRecorder()
	s.wrap(inner.ServeHTTP, with...).ServeHTTP(outer, newRequest(t, http.MethodPost))
	s.wantTokens("twice", outer.Header(), routertest.Token(1))
	if cookies := outer.Header().Values("Set-Cookie"); len(cookies) != 1 {
		t.Errorf("the cookies are %q", cookies)
	}
}

func TestTheCookieIsThatOfTheTemplateButForWhatIsTheTokens(t *testing.T) {
	for want, template := range map[string]http.Cookie{
		"own=TOKEN; Path=/; Max-Age=30; HttpOnly; SameSite=Lax": {Name: "own"},
		"own=TOKEN; Path=/shop; Domain=example.org; Max-Age=30; HttpOnly; Secure; SameSite=Strict": {
			Name: "own", Value: "x", Path: "/shop", Domain: "example.org", MaxAge: -1, Secure: true, SameSite: http.SameSiteStrictMode,
		},
		"__Host-own=TOKEN; Path=/; Max-Age=30; HttpOnly; Secure; SameSite=None; Partitioned": {
			Name: "__Host-own", Secure: true, SameSite: http.SameSiteNoneMode, Partitioned: true, Raw: "x", Unparsed: []string{"x"},
		},
	} {
		s := prepare(t)
		s.route()
		outer := httptest.NewRecorder()
		s.wrap(func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "another", Value: "1"})
			s.store(r.Context(), "row")
		}, httpscope.TokenCookie(template)).ServeHTTP(outer, newRequest(t, http.MethodPost))
		got := outer.Header().Values("Set-Cookie")
		if want = strings.Replace(want, "TOKEN", routertest.Token(1), 1); !slices.Equal(got, []string{"another=1", want}) {
			t.Errorf("the cookies are %q, want %q", got, want)
		}
	}
}

func TestATokenNeedsAPossibleName(t *testing.T) {
	for name, option := range map[string]func(){
		"no cookie name":         func() { httpscope.Middleware(httpscope.TokenCookie(http.Cookie{})) },
		"a cookie name with ;":   func() { httpscope.Middleware(httpscope.TokenCookie(http.Cookie{Name: "a;b"})) },
		"partitioned and secure": func() { httpscope.Middleware(httpscope.TokenCookie(http.Cookie{Name: "a", Partitioned: true})) },
		"no header name":         func() { httpscope.Middleware(httpscope.TokenHeader("")) },
		"a header name with :":   func() { httpscope.Middleware(httpscope.TokenHeader("a:b")) },
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(fmt.Sprint(v), "dbscope: ") {
					t.Errorf("%s: it panicked with %v", name, v)
				}
			}()
			option()
		}()
	}
}

func TestAClientWithACookieJarReadsWhatItWrote(t *testing.T) {
	s := newSite(t, func(s *site, _ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			s.store(r.Context(), "row")
		} else if err := s.query(r.Context()).Close(); err != nil {
			t.Error(err)
		}
	}, httpscope.ReadOnlySafeMethods(), httpscope.TokenCookie(http.Cookie{Name: "writes"}))
	router := s.route()
	s.send(http.MethodGet)
	s.send(http.MethodPost)
	s.send(http.MethodGet)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Client().Jar = jar
	s.send(http.MethodGet)
	s.send(http.MethodPost)
	s.send(http.MethodGet)
	s.send(http.MethodGet)
	if hosts := router.Reads(); !slices.Equal(hosts, []string{"replica", "replica", "replica", "primary", "primary"}) {
		t.Errorf("it read on %q", hosts)
	}
}
