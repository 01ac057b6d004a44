package idempotent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/scopetest"
)

func TestWithoutAUnitNoKeyIsTaken(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{http: []httpscope.Option{httpscope.Unscoped(func(*http.Request) bool { return true })}},
			func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		s.order("a", "tea").want(t, http.StatusInternalServerError, "Nothing was done")
		s.wantTold(nil, "inside httpscope's")
		d.wantStored(t, 0, 0)
	}, dbscope.AllowUnscoped()) // with which the key would be stored by itself
}

func TestRequestsThatOnlyReadNeedNoKey(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for _, opt := range []httpscope.Option{httpscope.ReadOnlySafeMethods(), httpscope.ScopeOptions()} {
			s := serve(t, d, setup{http: []httpscope.Option{opt}, keys: []idempotent.Option{idempotent.Required()}}, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "read")
				must(t, http.NewResponseController(w).Flush()) // a writer that is not recorded
			})
			for _, key := range []string{"", "a", "a", ",,,"} {
				if a := s.ask("GET", "/", key, ""); a.status != http.StatusOK || a.body != "read" || a.replayed() {
					t.Errorf("reading got %v", a)
				}
			}
		}
		s := serve(t, d, setup{http: []httpscope.Option{httpscope.ScopeOptions(dbscope.ReadOnly())}, keys: []idempotent.Option{idempotent.Required()}},
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "read") })
		s.ask("POST", "/", "", "").want(t, http.StatusOK, "read") // the unit can do nothing twice
		d.wantStored(t, 0, 0)
	})
}

func TestAMissingTableIsToldAndNothingIsDone(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		_, err := d.admin.Exec("DROP TABLE dbscope_requests")
		must(t, err)
		s := serve(t, d, setup{}, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		s.order("a", "tea").want(t, http.StatusInternalServerError, "Nothing was done")
		s.wantTold(nil, "in the table dbscope_requests")
	})
}

// What the unit has done before, such as finding its user, is not done again: a conflict
// that undoes it is for the client to repeat, or for httpscope.
func TestAKeyIsTakenInAUnitThatHasBegun(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		eachLevel(t, d, func(t *testing.T, level string, with setup) {
			with.between = func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var n int
					must(t, d.SQL().QueryRowContext(r.Context(), "SELECT count(*) FROM orders").Scan(&n))
					must(t, d.place(r.Context(), "seen"))
					next.ServeHTTP(w, r)
				})
			}
			begun, goOn := make(chan struct{}, 10), make(chan struct{})
			handler := func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-goOn
				d.ordering(w, r)
			}
			s := serve(t, d, with, handler)
			answers := s.gather(2, begun, func() { close(goOn) })
			seen := 2 // by the first, and the last below
			switch again := answers[1]; again.status {
			case http.StatusConflict:
				if d.mysql() && level != "serializable" {
					t.Error("the row was there, and was not found in a snapshot from before")
				}
				if again.header.Get("Retry-After") == "" {
					t.Errorf("the conflict has the headers %v", again.header)
				}
			case http.StatusInternalServerError: // its own rows were in conflict
			default:
				again.wantSame(t, answers[0])
				seen++ // stored with a replay, too
			}
			if n := d.count(t, "orders WHERE item = 'tea'"); n != 1 {
				t.Errorf("%d orders are stored", n)
			}
			s.order("a", "tea").wantSame(t, answers[0])
			if n := d.count(t, "orders WHERE item = 'seen'"); n != seen {
				t.Errorf("%d requests were seen, want %d", n, seen)
			}
		})
	})
}

// A request that is served inside of another one, in its unit, would wait for itself.
func TestAKeyWithinItsOwnUnitIsInUse(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		var inner http.Handler
		s := serve(t, d, setup{}, func(w http.ResponseWriter, r *http.Request) {
			must(t, d.place(r.Context(), "tea"))
			again := httptest.NewRequestWithContext(r.Context(), "POST", "/orders", strings.NewReader("tea"))
			again.Header.Set("Idempotency-Key", "a")
			a := httptest.NewRecorder()
			inner.ServeHTTP(a, again)
			_, _ = fmt.Fprint(w, a.Code)
		})
		inner = idempotent.Middleware(d.scoped, idempotent.Anybody)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
		s.order("a", "tea").want(t, http.StatusOK, "409")
		d.wantStored(t, 1, 1)
	})
}

func TestOldKeysArePurged(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		s := serve(t, d, setup{}, d.ordering)
		first := s.order("a", "tea")
		insert := "INSERT INTO dbscope_requests (id, request, created_at) VALUES ($1, $2, $3)"
		now := time.Now()
		tx, err := d.admin.Begin()
		must(t, err)
		const many = 2500
		for i := range many {
			id := fmt.Appendf(nil, "%032d", i)
			_, err := tx.Exec(d.args(insert), id, id, now.Add(-2*time.Hour).Unix())
			must(t, err)
		}
		must(t, tx.Commit())
		n, err := idempotent.Purge(t.Context(), d.scoped, time.Hour)
		must(t, err)
		if n != many {
			t.Errorf("%d keys were purged, want %d", n, many)
		}
		s.order("a", "tea").wantSame(t, first)
		d.wantStored(t, 1, 1)
		if n, err := idempotent.Purge(t.Context(), d.scoped, -time.Hour); n != 1 || err != nil {
			t.Errorf("%d keys were purged: %v", n, err)
		}
		if again := s.order("a", "tea"); again.body == first.body || again.replayed() {
			t.Errorf("after its key was purged the request got %v", again)
		}
	})
}

func TestTheKeyIsInTheDatabaseOfTheWork(t *testing.T) {
	for i := range databases {
		t.Run(databases[i].name, func(t *testing.T) {
			shards := map[string]*opened{"0": open(t, &databases[i], nil), "1": open(t, &databases[i], nil)}
			of := func(r *http.Request) *opened { return shards[r.Header.Get("Shard")] }
			choose := func(r *http.Request) idempotent.Database[sqlscope.SQLOption] { return of(r).scoped }
			handler := idempotent.Chosen(choose, idempotent.Anybody)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { of(r).ordering(w, r) }))
			server := httptest.NewServer(httpscope.Middleware()(handler))
			t.Cleanup(server.Close)
			s := &service{t: t, server: server, opened: shards["0"]}
			first := s.order("a", "tea", "Shard", "0")
			other := s.order("a", "tea", "Shard", "1") // the key is another one there
			s.order("a", "tea", "Shard", "0").wantSame(t, first)
			s.order("a", "tea", "Shard", "1").wantSame(t, other)
			for _, d := range shards {
				d.wantStored(t, 1, 1)
			}
		})
	}
}

// In a test of package scopetest all is undone, and until then is as it would be.
func TestInATestKeysAreStoredAndUndone(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.name == "MySQL" {
			t.Skip("package scopetest is not for it")
		}
		t.Run("test", func(t *testing.T) {
			ctx := scopetest.Rollback(t, d.scoped)
			s := serve(t, d, setup{context: func(context.Context) context.Context { return ctx }}, func(w http.ResponseWriter, r *http.Request) {
				d.ordering(w, r)
				if r.URL.Path == "/refused" {
					panic(http.ErrAbortHandler)
				}
			})
			if _, err := s.send("POST", "/refused", "a", "tea"); err == nil {
				t.Error("a panic was answered")
			}
			first := s.order("a", "tea")
			first.want(t, http.StatusCreated, "tea")
			s.order("a", "tea").wantSame(t, first)
			s.order("a", "coffee").want(t, http.StatusUnprocessableEntity, "")
			answers := make(chan answer)
			for range 6 {
				go func() {
					a, _ := s.send("POST", "/orders", "b", "tea")
					answers <- a
				}()
			}
			for range 6 {
				a := <-answers
				a.want(t, http.StatusCreated, "tea")
			}
			if n := scopetest.Count(ctx, d.scoped, "orders"); n != 2 {
				t.Errorf("%d orders are stored", n)
			}
		})
		d.wantStored(t, 0, 0)
	})
}
