package middlewaretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// Scenario is one rule of a middleware and how it is checked.
type Scenario struct {
	Name  string
	Needs []Ability
	run   func(*stage)
}

// Scenarios yields all scenarios.
func Scenarios() iter.Seq[Scenario] {
	return func(yield func(Scenario) bool) {
		for _, list := range [][]Scenario{endings, streams, scopes, slow, configured, told} {
			for _, s := range list {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Run runs one scenario, or skips it where the framework lacks what it needs.
func (s Scenario) Run(t T, f Framework) {
	t.Helper()
	for _, need := range s.Needs {
		if why, lacks := f.Lacks[need]; lacks {
			t.Skipf("the framework lacks %q: %s", need, why)
		}
	}
	if f.Call == nil {
		f.Call = post
	}
	end := time.Now().Add(patience)
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := t.Deadline(); ok && deadline.Before(end) {
			end = deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	t.Cleanup(cancel)
	fake := drivertest.NewFake()
	s.run(&stage{T: t, framework: f, ctx: ctx, fake: fake, db: fake.DB()})
}

// patience turns a scenario that hangs into one that fails, unless the test's own
// deadline comes first. Nothing else depends on it.
const patience = 20 * time.Second

// stage is where a scenario plays.
type stage struct {
	T
	framework Framework
	ctx       context.Context
	fake      *drivertest.Fake
	db        *dbscope.DB[*drivertest.Tx]

	mu        sync.Mutex
	errs      []error
	recovered []any
	stack     string // of the last panic that was recovered from
}

// serve starts the server for a handler.
func (s *stage) serve(handler func(Exchange) error) (url string) {
	s.Helper()
	return s.serveSite(Site{Handler: handler})
}

func (s *stage) serveSite(site Site) (url string) {
	s.Helper()
	site.OnError = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	}
	site.Recovered = func(v any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.recovered, s.stack = append(s.recovered, v), string(debug.Stack())
	}
	return s.framework.Serve(s.T, site)
}

// call sends a request and reads the whole answer.
func (s *stage) call(url string) (answer *Answer, body string) {
	s.Helper()
	answer = s.open(url, http.NoBody)
	return answer, s.read(answer)
}

// open sends a request and returns when the answer begins.
func (s *stage) open(url string, body io.Reader) *Answer {
	s.Helper()
	answer, err := s.framework.Call(s.ctx, url, body)
	if err != nil {
		s.Fatalf("the client got no answer: %v", err)
	}
	return answer
}

func (s *stage) read(answer *Answer) string {
	s.Helper()
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		s.Errorf("reading the answer: %v", err)
	}
	return string(body)
}

// wait waits for a channel to be closed.
func (s *stage) wait(c <-chan struct{}, what string) {
	s.Helper()
	if err := s.await(c, what); err != nil {
		s.Fatalf("%v", err)
	}
}

// await is wait for handlers, which must not end the test.
func (s *stage) await(c <-chan struct{}, what string) error {
	select {
	case <-c:
		return nil
	case <-s.ctx.Done():
		return fmt.Errorf("never happened: %s", what)
	}
}

// query opens rows and leaves them open.
func (s *stage) query(ctx context.Context) (*drivertest.Rows, error) {
	tx, err := s.db.Session(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Query(ctx, "all")
}

// store stores a row in the context's scope.
func (s *stage) store(ctx context.Context, row string) error { return store(ctx, s.db, row) }

func store(ctx context.Context, db *dbscope.DB[*drivertest.Tx], row string) error {
	tx, err := db.Session(ctx)
	if err != nil {
		return err
	}
	return tx.Exec(ctx, row)
}

func (s *stage) wantStatus(a *Answer, want int) {
	s.Helper()
	if a.Status != want {
		s.Errorf("the client got status %d, want %d", a.Status, want)
	}
}

func (s *stage) wantBody(got, want string) {
	s.Helper()
	if got != want {
		s.Errorf("the client got the body %q, want %q", got, want)
	}
}

func (s *stage) wantRows(want ...string) {
	s.Helper()
	if got := s.fake.Rows(); !slices.Equal(got, want) {
		s.Errorf("rows %q are stored, want %q", got, want)
	}
}

// wantLog checks the calls of the database, without what they acted on.
func (s *stage) wantLog(want ...string) {
	s.Helper()
	var got []string
	for _, step := range s.fake.Log() {
		if kind, _, _ := strings.Cut(step, " "); kind != "open" {
			got = append(got, kind)
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("the database saw %q, want %q", got, want)
	}
}

func (s *stage) wantIdle() {
	s.Helper()
	if n := s.fake.Open(); n != 0 {
		s.Errorf("%d connections are not back", n)
	}
}

// wantErrors checks what the error hook was told, in order.
func (s *stage) wantErrors(want ...error) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.errs, want, errors.Is) {
		s.Errorf("the error hook was told %q, want %q", s.errs, want)
	}
}
