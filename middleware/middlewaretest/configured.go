package middlewaretest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

type userKey struct{}

// configured are the scenarios about options, and about what a request's context
// is to others.
var configured = []Scenario{
	{Name: "a request may have a read-only scope", Needs: []Ability{ReadOnly}, run: func(s *stage) {
		answer, _ := s.call(s.serveSite(Site{Options: Options{ReadOnly: true}, Handler: func(x Exchange) error {
			return s.store(x.Context(), "row")
		}}))
		s.wantStatus(answer, 200)
		if log := s.fake.Log(); !slices.ContainsFunc(log, func(step string) bool { return strings.HasPrefix(step, "begin read-only") }) {
			s.Errorf("the database saw %q", log)
		}
	}},
	{Name: "a request may have no scope", Needs: []Ability{Unscoped}, run: func(s *stage) {
		answer, body := s.call(s.serveSite(Site{Options: Options{Unscoped: true}, Handler: func(x Exchange) error {
			if err := s.store(x.Context(), "row"); !errors.Is(err, dbscope.ErrNoScope) {
				s.Errorf("a statement returned %v", err)
			}
			return x.Write("hello")
		}}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "hello")
		s.wantLog()
	}},
	{Name: "errors of after-hooks are reported", run: func(s *stage) {
		fails := func(context.Context) error { return errSecret }
		answer, body := s.call(s.serve(func(x Exchange) error {
			ctx := x.Context()
			return errors.Join(s.store(ctx, "early"), s.db.AfterCommit(ctx, fails), s.db.Commit(ctx),
				s.store(ctx, "late"), dbscope.AfterCommit(ctx, fails), x.Write("done"))
		}))
		s.wantStatus(answer, 200)
		s.wantBody(body, "done")
		s.wantRows("early", "late")
		s.wantErrors(errSecret, errSecret)
	}},
	{Name: "a request that met a conflict is served again, with its body", Needs: []Ability{Retry}, run: func(s *stage) {
		s.fake.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
		s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
		attempts := 0
		answer := s.open(s.serveSite(Site{Options: Options{Retry: true}, Handler: func(x Exchange) error {
			attempts++
			body, err := io.ReadAll(x.Body())
			if err != nil {
				return err
			}
			x.Status(201)
			return errors.Join(x.Write("stored"), s.store(x.Context(), string(body)))
		}}), strings.NewReader("row"))
		s.wantStatus(answer, 201)
		s.wantBody(s.read(answer), "stored")
		s.wantRows("row")
		s.wantErrors()
		if attempts != 3 {
			s.Errorf("the handler was called %d times, want 3", attempts)
		}
	}},
	{Name: "a body that is too large to be buffered is refused, and no handler called", Needs: []Ability{BufferBody}, run: func(s *stage) {
		url := s.serveSite(Site{Options: Options{BufferBody: 3}, Handler: func(x Exchange) error {
			body, err := io.ReadAll(x.Body())
			if string(body) != "row" {
				s.Errorf("the handler read %q", body)
			}
			x.Status(201)
			return errors.Join(err, s.store(x.Context(), string(body)), x.Write("stored"))
		}})
		for body, status := range map[string]int{"row": 201, "rows": 413} {
			answer := s.open(url, strings.NewReader(body))
			s.wantStatus(answer, status)
			if text := s.read(answer); (text == "stored") != (status == 201) {
				s.Errorf("for %q the client got %q", body, text)
			}
		}
		s.wantRows("row")
		s.wantErrors()
	}},
	{Name: "a context that a handler sets is seen outside, without the scope", Needs: []Ability{SetContext}, run: func(s *stage) {
		s.setContext(Options{})
	}},
	{Name: "a context that a handler sets is seen outside where requests are served again", Needs: []Ability{SetContext, Retry}, run: func(s *stage) {
		s.setContext(Options{Retry: true})
	}},
	{Name: "a context that a handler sets is seen outside where there is no scope", Needs: []Ability{SetContext, Unscoped, TokenHeader}, run: func(s *stage) {
		s.setContext(Options{Unscoped: true, TokenHeader: "X-Token"}) // which changes the context too
	}},
}

// setContext has a handler set a context, as authentication does, whose user a
// logger outside names.
func (s *stage) setContext(options Options) {
	s.Helper()
	for _, sets := range []bool{false, true} {
		for _, panics := range []bool{false, true} {
			told := make(chan [2]context.Context, 1)
			url := s.serveSite(Site{
				Options: options,
				Outside: func(before, after context.Context) { told <- [2]context.Context{before, after} },
				Handler: func(x Exchange) error {
					if setter, ok := x.(ContextSetter); sets && ok {
						setter.SetContext(context.WithValue(x.Context(), userKey{}, "ann"))
					} else if sets {
						s.Errorf("the framework lacks %q, and does not say so", SetContext)
					}
					if panics {
						panic("on purpose")
					}
					return nil
				},
			})
			s.call(url)
			contexts := <-told
			user, _ := contexts[1].Value(userKey{}).(string)
			if want := map[bool]string{true: "ann"}[sets]; user != want || !sets && contexts[0] != contexts[1] {
				s.Errorf("sets %t, panics %t: outside the user is %q, and the context the same: %t",
					sets, panics, user, contexts[0] == contexts[1])
			}
			if _, err := s.db.Session(contexts[1]); !errors.Is(err, dbscope.ErrNoScope) {
				s.Errorf("sets %t, panics %t: a session outside returned %v", sets, panics, err)
			}
		}
	}
}
