package middleware_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware"
)

func TestACallWithoutTokensCostsNoMoreThanItsScope(t *testing.T) {
	fail := func(f *middleware.Failure) error { return f }
	unscoped := func(p *middleware.Policy[string]) { p.Unscoped = func(string) bool { return true } }
	for want, options := range map[float64][]func(*middleware.Policy[string]){3: nil, 0: {unscoped}} {
		rpc := middleware.NewRPC(func(string, error) {}, codeOf, fail, options)
		got := testing.AllocsPerRun(100, func() {
			if unit, started := rpc.Start(t.Context(), "place"); started {
				if err := unit.Finish(nil); err != nil {
					t.Error(err)
				}
				unit.Abandon()
			}
		})
		if got > want {
			t.Errorf("a call costs %v allocations, want %v", got, want)
		}
	}
}

func TestAnUnscopedCallWithATokenMaySendAndEndAsItLikes(t *testing.T) {
	rpc := middleware.NewRPC(func(_ string, err error) { t.Error(err) }, codeOf, func(f *middleware.Failure) error { return f },
		[]func(*middleware.Policy[string]){func(p *middleware.Policy[string]) {
			p.Unscoped = func(string) bool { return true }
			p.TokenInTrailer("writes", func(string) string { return "" }, func(string, string) { t.Error("it was given a token") })
		}})
	unit, started := rpc.Start(t.Context(), "place")
	if _, scoped := dbscope.FromContext(unit.Context); !started || scoped {
		t.Fatalf("started is %v, scoped %v", started, scoped)
	}
	if err := errors.Join(unit.Sending(), unit.Sending(), unit.Finish(nil)); err != nil {
		t.Error(err)
	}
	unit.Abandon()
}

// A policy says with its field alone that tokens count.
func TestATokenForWhichThereIsNoTrailerIsDropped(t *testing.T) {
	c := start(t, func(p *middleware.Policy[string]) { p.Token = func(string) string { return "" } })
	_, c.db = routertest.New(t, c.fake)
	c.store("row")
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if token := dbscope.WritesToken(c.Context); token != routertest.Token(1) {
		t.Errorf("the token is %q", token)
	}
}

func TestATokenIsPutOnce(t *testing.T) {
	for name, end := range map[string]func(*call){
		"a return": func(c *call) { _ = c.Finish(errNotFound) },
		"a panic":  func(*call) {},
		"a panic at the commit": func(c *call) {
			defer func() { _ = recover() }()
			if err := dbscope.BeforeCommit(c.Context, func(context.Context) error { panic("no") }); err != nil {
				t.Error(err)
			}
			_ = c.Finish(nil)
		},
	} {
		var put []string
		c := start(t, func(p *middleware.Policy[string]) {
			p.TokenInTrailer("writes", func(string) string { return "" }, func(_, token string) { put = append(put, token) })
		})
		_, c.db = routertest.New(t, c.fake)
		c.store("early")
		if err := c.db.Commit(c.Context); err != nil {
			t.Error(err)
		}
		c.store("late")
		end(c)
		c.Abandon()
		if !slices.Equal(put, []string{routertest.Token(1)}) {
			t.Errorf("after %s the tokens %q were put", name, put)
		}
	}
}
