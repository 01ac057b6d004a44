package idempotent_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/tests/wire"
)

// longVariable makes the model run long; -rapid.checks says how often.
const longVariable = "DBSCOPE_LONG"

// conduct is what a handler does in its request, beside placing an order.
type conduct string

const (
	answers      conduct = "answers"
	silent       conduct = "writes nothing"
	refuses      conduct = "refuses"
	panicking    conduct = "panics"
	exits        conduct = "ends its goroutine"
	marks        conduct = "marks the unit to roll back"
	talks        conduct = "writes too much"
	rollsBack    conduct = "rolls back early, and begins anew"
	commits      conduct = "commits early, which is refused, and begins anew"
	commitsScope conduct = "commits its scope early"
	breaks       conduct = "breaks a constraint that COMMIT checks"
	losesBefore  conduct = "loses its connection before COMMIT"
	losesAnswer  conduct = "loses the answer to COMMIT"
	leaves       conduct = "loses its client"
)

// request is one of a model's program.
type request struct {
	principal, key, body string
	does                 conduct
	copies               int // that are sent side by side
}

func (r request) String() string {
	return fmt.Sprintf("%d times %s's key %s with %q, whose handler %s", r.copies, r.principal, r.key, r.body, r.does)
}

// conducts are those that the database can show.
func conducts(d *database) []conduct {
	all := []conduct{answers, answers, answers, silent, refuses, panicking, exits, marks, talks, rollsBack, commits, commitsScope, leaves}
	if !d.mysql() {
		all = append(all, breaks)
	}
	if d.postgres() {
		all = append(all, losesBefore, losesAnswer)
	}
	return all
}

func requests(d *database) *rapid.Generator[request] {
	return rapid.Custom(func(t *rapid.T) request {
		r := request{
			principal: rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "principal"),
			key:       rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "key"),
			body:      rapid.SampledFrom([]string{"tea", "tea", "tea", "coffee"}).Draw(t, "body"),
			does:      rapid.SampledFrom(conducts(d)).Draw(t, "handler"),
			copies:    rapid.SampledFrom([]int{1, 1, 1, 3}).Draw(t, "copies"),
		}
		if slices.Contains([]conduct{rollsBack, commits, commitsScope, losesBefore, losesAnswer}, r.does) {
			r.copies = 1 // of several, which of them it hits is luck
		}
		return r
	})
}

// model is what must be there: for each principal's key, the request and its answer.
type model struct {
	keys   map[[2]string]*entry
	orders int
}

type entry struct {
	body   string
	status int
	answer string
}

// world is a service on one database, and what its handlers have said.
type world struct {
	*service
	proxy  *wire.Proxy
	client *http.Client

	mu     sync.Mutex
	calls  int
	said   entry // by the last call
	leaves map[string]context.CancelFunc
}

func newWorld(t *testing.T, d *database) *world {
	w := &world{leaves: map[string]context.CancelFunc{}}
	w.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // or it would repeat some requests itself
	var through func(string) string
	if d.postgres() {
		through = func(dsn string) string {
			w.proxy = wire.Start(t, strings.Split(strings.Split(dsn, "@")[1], "/")[0])
			return w.proxy.DSN(dsn)
		}
	}
	o := open(t, d, through)
	of := func(r *http.Request) (string, bool) { return r.Header.Get("User"), true }
	w.service = serve(t, o, setup{of: of, keys: []idempotent.Option{idempotent.MaxResponse(100)}}, func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		must(t, err)
		w.handle(rw, r, string(body), conduct(r.Header.Get("Does")))
	})
	return w
}

func (w *world) handle(rw http.ResponseWriter, r *http.Request, body string, does conduct) {
	ctx := r.Context()
	said := entry{body, http.StatusCreated, rand.Text()}
	must(w.t, w.place(ctx, body))
	begin := func(err error) {
		if does != rollsBack && !errors.Is(err, dbscope.ErrRolledBack) {
			w.t.Errorf("an early commit returned %v", err)
		}
		must(w.t, w.place(ctx, body))
	}
	switch does {
	case silent:
		said.status, said.answer = http.StatusOK, ""
	case refuses:
		said.status = http.StatusConflict
	case marks:
		must(w.t, dbscope.MarkRollback(ctx))
	case talks:
		_, _ = io.WriteString(rw, strings.Repeat("x", 101))
	case rollsBack:
		begin(w.Rollback(ctx))
	case commits:
		begin(w.Commit(ctx))
	case commitsScope:
		scope, _ := dbscope.FromContext(ctx)
		begin(scope.Commit(ctx))
	case breaks:
		must(w.t, w.placeLost(ctx, body))
	case losesBefore, losesAnswer:
		w.cutCommit(w.proxy, does == losesAnswer)
	case leaves:
		w.mu.Lock()
		leave := w.leaves[r.Header.Get("Copy")]
		w.mu.Unlock()
		leave()
		<-ctx.Done()
	}
	w.mu.Lock()
	w.calls++
	w.said = said
	w.mu.Unlock()
	switch does {
	case panicking:
		panic(http.ErrAbortHandler)
	case exits:
		runtime.Goexit()
	case silent, talks:
	default:
		rw.WriteHeader(said.status)
		_, _ = io.WriteString(rw, said.answer)
	}
}

// ask sends the copies, and returns the answers, those of status 0 where there was none.
func (w *world) ask(q request) []answer {
	got := make([]answer, q.copies)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			copied := rand.Text()
			w.mu.Lock()
			w.leaves[copied] = cancel
			w.mu.Unlock()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.server.URL+"/", strings.NewReader(q.body))
			must(w.t, err)
			r.Header.Set("Idempotency-Key", q.key)
			r.Header.Set("User", q.principal)
			r.Header.Set("Does", string(q.does))
			r.Header.Set("Copy", copied)
			resp, err := w.client.Do(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(resp.Body)
			if _ = resp.Body.Close(); err == nil {
				got[i] = answer{resp.StatusCode, resp.Header, string(body)}
			}
		})
	}
	all.Wait()
	return got
}

// after is what a handler of its own must have led to: the client's answer, and whether it is stored.
func (q request) after(said entry) (status int, stored bool) {
	switch q.does {
	case refuses:
		return said.status, false
	case marks:
		return said.status, false
	case panicking, exits:
		return 0, false
	case talks, breaks, losesBefore:
		return http.StatusInternalServerError, false
	case losesAnswer:
		return http.StatusInternalServerError, true
	case leaves:
		return 0, true
	}
	return said.status, true
}

// one compares a request that is sent alone, or each of several in turn.
func (m *model) one(t *rapid.T, w *world, q request, got answer, called bool) {
	at := [2]string{q.principal, q.key}
	known := m.keys[at]
	switch {
	case known != nil && called:
		t.Fatalf("%v: it was served again", q)
	case known != nil && known.body != q.body:
		if got.status != http.StatusUnprocessableEntity {
			t.Fatalf("%v: a key of another request was answered with %v", q, got)
		}
	case known != nil:
		if got.status != known.status || got.body != known.answer || !got.replayed() {
			t.Fatalf("%v: it was answered with %v, want %v again", q, got, *known)
		}
	case !called:
		t.Fatalf("%v: it was not served, and answered with %v", q, got)
	default:
		status, stored := q.after(w.said)
		if got.status != status || status == w.said.status && got.body != w.said.answer || got.replayed() {
			t.Fatalf("%v: it was answered with %v, want %d %s", q, got, status, w.said.answer)
		}
		if stored {
			said := w.said
			m.keys[at] = &said
			m.orders++
		}
	}
}

// several compares copies that were sent side by side: those that came to be served did
// so one after the other, until one was stored.
func (m *model) several(t *rapid.T, w *world, q request, got []answer, calls int) {
	at := [2]string{q.principal, q.key}
	if m.keys[at] != nil {
		for _, a := range got {
			m.one(t, w, q, a, calls > 0)
		}
		return
	}
	status, stored := q.after(w.said)
	want := len(got)
	if stored {
		said := w.said
		m.keys[at], want = &said, 1
		m.orders++
	}
	if calls != want {
		t.Fatalf("%v: %d were served, want %d", q, calls, want)
	}
	first := slices.IndexFunc(got, func(a answer) bool { return a.status == status && !a.replayed() })
	if first < 0 {
		t.Fatalf("%v: they were answered with %v, want %d", q, got, status)
	}
	for i, a := range got {
		if stored && i != first {
			m.one(t, w, q, a, false)
		} else if a.status != status || a.replayed() {
			t.Fatalf("%v: one was answered with %v, want %d", q, a, status)
		}
	}
}

// run sends the requests and compares all that can be seen.
func (m *model) run(t *rapid.T, w *world, program []request) {
	for _, q := range program {
		w.calls = 0
		got := w.ask(q)
		eventually(t, "all requests are over", func() bool { return w.served.Load() == 0 })
		if q.copies == 1 {
			m.one(t, w, q, got[0], w.calls > 0)
		} else {
			m.several(t, w, q, got, w.calls)
		}
		if orders, keys := w.count(w.t, "orders"), w.count(w.t, "dbscope_requests WHERE response IS NOT NULL"); orders != m.orders || keys != len(m.keys) {
			t.Fatalf("%v: %d orders and %d keys are stored, want %d and %d", q, orders, keys, m.orders, len(m.keys))
		}
	}
}

func TestRequestsAreDoneAsAModelSays(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		n := "40"
		if os.Getenv(longVariable) != "" {
			n = "2000"
		}
		must(t, checks.Value.Set(n))
		t.Cleanup(func() { must(t, checks.Value.Set(checks.DefValue)) })
	}
	for i := range databases {
		t.Run(databases[i].name, func(t *testing.T) {
			w := newWorld(t, &databases[i])
			rapid.Check(t, func(t *rapid.T) {
				for _, table := range []string{"orders", "dbscope_requests"} {
					_, err := w.admin.Exec("DELETE FROM " + table)
					must(t, err)
				}
				m := &model{keys: map[[2]string]*entry{}}
				m.run(t, w, rapid.SliceOfN(requests(w.database), 1, 15).Draw(t, "requests"))
			})
		})
	}
}
