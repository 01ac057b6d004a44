package middlewaretest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/dbscope/dbscope"
)

// scopes are the scenarios about which scope a request has.
var scopes = []Scenario{
	{Name: "the scope is over after the answer", run: func(s *stage) {
		contexts := make(chan context.Context, 1)
		s.call(s.serve(func(x Exchange) error {
			contexts <- x.Context()
			return s.store(x.Context(), "row")
		}))
		ctx := <-contexts
		if err := s.store(ctx, "too late"); !errors.Is(err, dbscope.ErrScopeEnded) {
			s.Errorf("a statement after the answer returned %v", err)
		}
		s.wantIdle()
		s.wantRows("row")
	}},
	{Name: "a scope that the request has already stays in charge", run: func(s *stage) {
		begun := make(chan context.Context, 1)
		url := s.serveSite(Site{
			Handler: func(x Exchange) error {
				if err := s.store(x.Context(), "row"); err != nil {
					return err
				}
				x.Status(201)
				return x.Write("done")
			},
			Context: func(ctx context.Context) context.Context {
				ctx, _ = dbscope.Begin(ctx)
				begun <- ctx
				return ctx
			},
		})
		answer, body := s.call(url)
		s.wantStatus(answer, 201)
		s.wantBody(body, "done")
		s.wantRows()
		ctx := <-begun
		scope, _ := dbscope.FromContext(ctx)
		if err := errors.Join(scope.Commit(ctx), scope.End(ctx)); err != nil {
			s.Errorf("committing the outer scope: %v", err)
		}
		s.wantRows("row")
	}},
	{Name: "a scope in the request's context that is over makes room for one of its own", run: func(s *stage) {
		answer, _ := s.call(s.serveSite(Site{
			Handler: func(x Exchange) error { return s.store(x.Context(), "row") },
			Context: func(ctx context.Context) context.Context {
				ctx, over := dbscope.Begin(ctx)
				if err := over.End(ctx); err != nil {
					s.Errorf("releasing the outer scope: %v", err)
				}
				return ctx
			},
		}))
		s.wantStatus(answer, 200)
		s.wantRows("row")
	}},
	{Name: "requests side by side have scopes of their own", run: func(s *stage) {
		const n = 20
		var serial sync.Mutex
		next := 0
		var all sync.WaitGroup
		all.Add(n)
		url := s.serve(func(x Exchange) error {
			serial.Lock()
			i := next
			next++
			serial.Unlock()
			err := s.store(x.Context(), fmt.Sprintf("row %02d", i))
			all.Done()
			all.Wait() // all transactions are open now
			if err == nil && i%2 == 1 {
				err = errors.New("an odd one")
			}
			return err
		})
		var clients sync.WaitGroup
		for range n {
			clients.Go(func() {
				answer, err := s.framework.Call(s.ctx, url, http.NoBody)
				if err != nil {
					s.Errorf("the client got no answer: %v", err)
					return
				}
				s.read(answer)
			})
		}
		clients.Wait()
		rows := s.fake.Rows()
		slices.Sort(rows)
		var want []string
		for i := 0; i < n; i += 2 {
			want = append(want, fmt.Sprintf("row %02d", i))
		}
		if !slices.Equal(rows, want) {
			s.Errorf("rows %q are stored, want %q", rows, want)
		}
	}},
}
