package idempotent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/tests/wire"
)

// cutCommit cuts the connection in the COMMIT of the next unit, before it is done, or
// before its answer.
func (d *database) cutCommit(p *wire.Proxy, done bool) {
	at := wire.CutAt{Message: "Query", Containing: "commit", When: wire.Before}
	if d.driver == "postgres" { // which writes it so
		at.Containing = "COMMIT"
	}
	if done {
		at = wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: wire.Before}
	}
	p.Cut(at)
}

func TestACommitWhoseAnswerWasLostIsAnsweredByTheNextRequest(t *testing.T) {
	for i := range databases {
		if d := &databases[i]; d.postgres() {
			t.Run(d.name, func(t *testing.T) {
				var proxy *wire.Proxy
				o := open(t, d, func(dsn string) string {
					proxy = wire.Start(t, strings.Split(strings.Split(dsn, "@")[1], "/")[0])
					return proxy.DSN(dsn)
				})
				s := serve(t, o, setup{}, o.ordering)
				for n, stored := range []bool{true, false, true} {
					key := fmt.Sprint("key ", n)
					d.cutCommit(proxy, stored)
					s.order(key, "tea").want(t, http.StatusInternalServerError, "Internal Server Error")
					if s.wantTold(dbscope.ErrCommitUnknown, ""); proxy.Cuts() != n+1 {
						t.Fatalf("%d connections were cut", proxy.Cuts())
					}
					again := s.order(key, "tea")
					again.want(t, http.StatusCreated, "tea is order")
					if again.replayed() != stored {
						t.Errorf("the answer is one that was stored: %v, want %v", again.replayed(), stored)
					}
					s.order(key, "tea").wantSame(t, again)
					o.wantStored(t, n+1, n+1)
				}
			})
		}
	}
}

func TestAnEarlyCommitIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "first"))
			var err error
			switch r.URL.Path {
			case "/commit":
				err = d.Commit(r.Context())
			case "/scope":
				scope, _ := dbscope.FromContext(r.Context())
				err = scope.Commit(r.Context())
			case "/rolled-back":
				must(t, d.Rollback(r.Context()))
				must(t, d.place(r.Context(), "lost"))
				scope, _ := dbscope.FromContext(r.Context())
				err = scope.Commit(r.Context())
			case "/atomic":
				err = d.Atomic(r.Context(), func(context.Context) error { return nil }, dbscope.CommitOpen)
			}
			if !errors.Is(err, dbscope.ErrRolledBack) || !strings.Contains(err.Error(), "before the handler has returned") {
				t.Errorf("the early commit returned %v", err)
			}
			if err := d.place(r.Context(), "second"); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusCreated)
		})
		for n, path := range []string{"/commit", "/scope", "/rolled-back", "/atomic"} {
			// What the handler does after it is a new transaction, which has the key again.
			first := s.ask("POST", path, path, "")
			first.want(t, http.StatusCreated, "")
			s.ask("POST", path, path, "").wantSame(t, first)
			d.wantStored(t, n+1, n+1)
		}
		s.wantNothingTold()
	})
}

func TestAfterAnEarlyRollbackTheKeyIsStoredWithTheRest(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "lost"))
			must(t, d.Rollback(r.Context()))
			if r.URL.Path != "/nothing" {
				d.ordering(w, r)
			}
		})
		first := s.order("a", "tea")
		first.want(t, http.StatusCreated, "tea")
		s.order("a", "tea").wantSame(t, first)
		d.wantStored(t, 1, 1)
		first = s.ask("POST", "/nothing", "b", "")
		first.want(t, http.StatusOK, "")
		s.ask("POST", "/nothing", "b", "").wantSame(t, first)
		d.wantStored(t, 1, 2)
		s.wantNothingTold()
	})
}

// A request that has rolled back early, and finds the key taken at its end, is undone.
func TestAKeyThatWasGivenUpBelongsToWhoTakesItFirst(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		rolledBack, goOn := make(chan struct{}, 1), make(chan struct{})
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Gives-Up") != "" {
				must(t, d.Rollback(r.Context()))
				rolledBack <- struct{}{}
				<-goOn
			}
			d.ordering(w, r)
		})
		given := make(chan answer)
		go func() {
			a, _ := s.send("POST", "/orders", "a", "tea", "Gives-Up", "yes")
			given <- a
		}()
		<-rolledBack
		first := s.order("a", "tea")
		first.want(t, http.StatusCreated, "tea")
		close(goOn)
		a := <-given
		a.want(t, http.StatusInternalServerError, "")
		s.wantTold(dbscope.ErrRolledBack, "taken the key meanwhile")
		s.order("a", "tea").wantSame(t, first)
		d.wantStored(t, 1, 1)
	})
}

func TestWhatIsCommittedIsStoredUnlessThePolicySaysOtherwise(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		all := httpscope.CommitWhen(func(*http.Request, int) bool { return true })
		handler := func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "audit"))
			if r.URL.Path == "/refused" {
				http.Error(w, "refused", http.StatusConflict)
			}
		}
		s := serve(t, d, setup{http: []httpscope.Option{all}}, handler)
		first := s.ask("POST", "/refused", "a", "")
		first.want(t, http.StatusConflict, "refused")
		s.ask("POST", "/refused", "a", "").wantSame(t, first)
		d.wantStored(t, 1, 1)

		under400 := idempotent.StoreWhen(func(r *http.Request, status int) bool { return status < 400 && r.URL.Path != "/never" })
		s = serve(t, d, setup{http: []httpscope.Option{all}, keys: []idempotent.Option{under400}}, handler)
		for range 2 {
			if a := s.ask("POST", "/refused", "b", ""); a.status != http.StatusConflict || a.replayed() {
				t.Errorf("the client got %v", a)
			}
			if a := s.ask("POST", "/never", "b", ""); a.status != http.StatusOK || a.replayed() {
				t.Errorf("the client got %v", a)
			}
		}
		d.wantStored(t, 5, 1)
		first = s.ask("POST", "/orders", "b", "")
		s.ask("POST", "/orders", "b", "").wantSame(t, first)
		d.wantStored(t, 6, 2)
		s.wantNothingTold()
	})
}

// What httpscope repeats, for a conflict in the handler, is one request for the key.
func TestARequestThatHttpscopeServesAgainIsDoneOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.sqlite() {
			t.Skip("its units do not conflict")
		}
		_, err := d.admin.Exec("INSERT INTO orders (item) VALUES ('0')")
		must(t, err)
		s := serve(t, d, setup{http: []httpscope.Option{
			httpscope.ScopeOptions(dbscope.Isolation(levels["serializable"])), httpscope.Retry(dbscope.RetryPolicy{Attempts: 50}, 100),
		}}, func(w http.ResponseWriter, r *http.Request) {
			var n int
			err := d.SQL().QueryRowContext(r.Context(), "SELECT item FROM orders WHERE item <> 'tea'").Scan(&n)
			if err == nil {
				_, err = d.SQL().ExecContext(r.Context(), d.args("UPDATE orders SET item = $1 WHERE item <> 'tea'"), fmt.Sprint(n+1))
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = fmt.Fprint(w, n+1)
		})
		const n = 12
		answers := make(chan answer, 2*n)
		for i := range 2 * n {
			go func() {
				a, _ := s.send("POST", "/", fmt.Sprint(i/2), "")
				answers <- a
			}()
		}
		got := map[string]int{}
		for range 2 * n {
			a := <-answers
			a.want(t, http.StatusOK, "")
			got[a.body]++
		}
		for i := 1; i <= n; i++ {
			if got[fmt.Sprint(i)] != 2 {
				t.Errorf("the answers are %v", got)
				break
			}
		}
		s.wantNothingTold()
	})
}
