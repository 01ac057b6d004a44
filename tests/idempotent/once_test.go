package idempotent_test

import (
	"context"
	"database/sql"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

func TestARepeatedRequestGetsTheFirstAnswerAndIsDoneOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, d.ordering)
		first := s.order("a", "tea")
		first.want(t, http.StatusCreated, "tea is order")
		if first.replayed() {
			t.Error("the first answer says that it is a repeated one")
		}
		for range 3 {
			s.order("a", "tea").wantSame(t, first)
		}
		d.wantStored(t, 1, 1)
		if other := s.order("b", "tea"); other.body == first.body {
			t.Error("another key got the same answer")
		}
		d.wantStored(t, 2, 2)
		s.wantNothingTold()
	})
}

func TestAKeyWithAnotherRequestIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{keys: []idempotent.Option{idempotent.Headers("x-tenant")}}, d.ordering)
		first := s.ask("POST", "/orders?a=1", "a", "tea", "X-Tenant", "ada", "X-Other", "1")
		for what, again := range map[string]answer{
			"method": s.ask("PUT", "/orders?a=1", "a", "tea", "X-Tenant", "ada"),
			"path":   s.ask("POST", "/order?a=1", "a", "tea", "X-Tenant", "ada"),
			"query":  s.ask("POST", "/orders?a=2", "a", "tea", "X-Tenant", "ada"),
			"body":   s.ask("POST", "/orders?a=1", "a", "coffee", "X-Tenant", "ada"),
			"header": s.ask("POST", "/orders?a=1", "a", "tea", "X-Tenant", "bob"),
			"number": s.ask("POST", "/orders?a=1", "a", "tea", "X-Tenant", "ada", "X-Tenant", "ada"),
		} {
			if again.status != http.StatusUnprocessableEntity || again.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("another %s was answered with %d %v %s", what, again.status, again.header, again.body)
			}
		}
		s.ask("POST", "/orders?a=1", "a", "tea", "X-Tenant", "ada", "X-Other", "2").wantSame(t, first)
		d.wantStored(t, 1, 1)
	})
}

func TestAKeyBelongsToAPrincipal(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		of := func(r *http.Request) (string, bool) { return r.Header.Get("User"), r.Header.Get("User") != "" }
		s := serve(t, d, setup{of: of}, d.ordering)
		ada := s.order("a", "tea", "User", "ada")
		bob := s.order("a", "tea", "User", "bob")
		if ada.status != http.StatusCreated || bob.status != http.StatusCreated || ada.body == bob.body || bob.replayed() {
			t.Errorf("ada got %v, bob %v", ada, bob)
		}
		s.order("a", "tea", "User", "ada").wantSame(t, ada)
		s.order("a", "tea", "User", "bob").wantSame(t, bob)
		s.order("a", "tea").want(t, http.StatusForbidden, "nobody's")
		d.wantStored(t, 2, 2)
		s.order("", "tea").want(t, http.StatusCreated, "") // without a key nobody asks
		d.wantStored(t, 3, 2)
	})
}

func TestKeysAreRequiredWhereThatIsAskedFor(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{
			http: []httpscope.Option{httpscope.ReadOnlySafeMethods()},
			keys: []idempotent.Option{idempotent.Required(), idempotent.HeaderName("x-request-key")},
		}, d.ordering)
		s.order("", "tea").want(t, http.StatusBadRequest, "X-Request-Key is missing")
		s.order("a", "tea").want(t, http.StatusBadRequest, "X-Request-Key is missing")
		s.order("", "tea", "X-Request-Key", "a,b").want(t, http.StatusBadRequest, "X-Request-Key is not valid")
		s.order("", "tea", "X-Request-Key", strings.Repeat("x", 256)).want(t, http.StatusBadRequest, "255")
		s.order("", "tea", "X-Request-Key", "a", "X-Request-Key", "a").want(t, http.StatusBadRequest, "more than one")
		d.wantStored(t, 0, 0)
		first := s.order("", "tea", "X-Request-Key", "a")
		s.order("", "tea", "X-Request-Key", `"a"`).wantSame(t, first)
		s.order("", "tea", "X-Request-Key", strings.Repeat("x", 255)).want(t, http.StatusCreated, "")
		d.wantStored(t, 2, 2)
	})
}

// What fails leaves the key as if it had never been used.
func TestOnlyCommittedWorkKeepsItsKey(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/refused":
				must(t, d.place(r.Context(), "lost"))
				http.Error(w, "refused", http.StatusConflict)
			case "/panics":
				must(t, d.place(r.Context(), "lost"))
				panic(http.ErrAbortHandler)
			case "/marked":
				must(t, d.place(r.Context(), "lost"))
				must(t, dbscope.MarkRollback(r.Context()))
				w.WriteHeader(http.StatusAccepted)
			case "/fails":
				must(t, d.placeLost(r.Context(), "lost"))
				w.WriteHeader(http.StatusCreated)
			default:
				d.ordering(w, r)
			}
		})
		for range 2 {
			if a := s.ask("POST", "/refused", "a", "tea"); a.status != http.StatusConflict || a.body != "refused\n" || a.replayed() {
				t.Errorf("the refusal is %v", a)
			}
			if _, err := s.send("POST", "/panics", "a", "tea"); err == nil {
				t.Error("a handler that panicked has answered")
			}
			if a := s.ask("POST", "/marked", "a", "tea"); a.status != http.StatusAccepted || a.replayed() {
				t.Errorf("a dry run got %v", a)
			}
			s.wantNothingTold()
			if !d.mysql() { // which checks each row at once
				s.ask("POST", "/fails", "a", "tea").want(t, http.StatusInternalServerError, "Internal Server Error")
				s.wantTold(dbscope.ErrRolledBack, "")
			}
		}
		d.wantStored(t, 0, 0)
		first := s.order("a", "coffee")
		first.want(t, http.StatusCreated, "coffee")
		s.order("a", "coffee").wantSame(t, first)
		d.wantStored(t, 1, 1)
	})
}

var levels = map[string]sql.IsolationLevel{
	"default": sql.LevelDefault, "read committed": sql.LevelReadCommitted,
	"repeatable read": sql.LevelRepeatableRead, "serializable": sql.LevelSerializable,
}

func TestOfManyAtOnceOneIsServedAndTheOthersGetItsAnswer(t *testing.T) {
	const atOnce, keys = 6, 15
	onEach(t, func(t *testing.T, d *opened) {
		for name, level := range levels {
			if d.sqlite() && level != sql.LevelDefault {
				continue // it has no other
			}
			t.Run(name, func(t *testing.T) {
				s := serve(t, d, setup{
					http: []httpscope.Option{httpscope.ScopeOptions(dbscope.Isolation(level))},
				}, d.ordering)
				before := d.count(t, "orders")
				for range keys {
					key := name + time.Now().Format(".000000")
					answers := make([]answer, atOnce)
					var all sync.WaitGroup
					for i := range atOnce {
						all.Go(func() {
							var err error
							if answers[i], err = s.send("POST", "/orders", key, "tea"); err != nil {
								t.Error(err)
							}
						})
					}
					all.Wait()
					served := 0
					for _, a := range answers {
						if a.status != http.StatusCreated || a.body != answers[0].body {
							t.Errorf("one got %d %q, another %d %q", answers[0].status, answers[0].body, a.status, a.body)
						}
						if !a.replayed() {
							served++
						}
					}
					if served != 1 {
						t.Errorf("%d requests were served", served)
					}
				}
				if n := d.count(t, "orders") - before; n != keys {
					t.Errorf("%d orders are stored, want %d", n, keys)
				}
				s.wantNothingTold()
			})
		}
	})
}

// The lock timeout of the database bounds the wait; that of the handler's statements is
// as it was.
func TestARequestWhoseFirstAttemptStillRunsIsToldToAskAgain(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.sqlite() {
			t.Skip("its busy_timeout decides, and holds for all who write")
		}
		begun, goOn := make(chan string, 1), make(chan struct{})
		s := serve(t, d, setup{keys: []idempotent.Option{idempotent.Wait(time.Second)}}, func(w http.ResponseWriter, r *http.Request) {
			var timeout string
			must(t, d.SQL().QueryRowContext(r.Context(), d.timeout).Scan(&timeout))
			begun <- timeout
			<-goOn
			d.ordering(w, r)
		})
		var usual string
		must(t, d.admin.QueryRow(d.timeout).Scan(&usual))
		first := make(chan answer)
		go func() {
			a, _ := s.send("POST", "/orders", "a", "tea")
			first <- a
		}()
		if timeout := <-begun; timeout != usual {
			t.Errorf("the handler's lock timeout is %s, want %s", timeout, usual)
		}
		for range 2 {
			again := s.order("a", "tea")
			again.want(t, http.StatusConflict, "is being served")
			if again.header.Get("Retry-After") == "" {
				t.Error("the refusal has no Retry-After")
			}
		}
		close(goOn)
		s.order("a", "tea").wantSame(t, <-first)
		d.wantStored(t, 1, 1)
		s.wantNothingTold()
		must(t, dbscope.Run(t.Context(), func(ctx context.Context) error { // on one of the same connections
			var timeout string
			err := d.SQL().QueryRowContext(ctx, d.timeout).Scan(&timeout)
			if timeout != usual {
				t.Errorf("afterwards the lock timeout is %s, want %s", timeout, usual)
			}
			return err
		}))
	})
}
