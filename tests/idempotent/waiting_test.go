package idempotent_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// waiting tells how many sessions wait for a lock. SQLite has no way to ask.
func (d *opened) waiting(t testing.TB) (n int) {
	t.Helper()
	query := "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
	switch d.name {
	case "MariaDB":
		query = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Innodb_row_lock_current_waits'"
	case "MySQL":
		query = "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Innodb_row_lock_current_waits'"
	}
	must(t, d.admin.QueryRow(query).Scan(&n))
	return n
}

// gather sends requests with one key: the first one's handler is called, and the others
// wait for it when release is called. It returns all answers.
func (s *service) gather(n int, begun <-chan struct{}, release func()) []answer {
	s.t.Helper()
	release = sync.OnceFunc(release)
	defer release()
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var err error
			if answers[i], err = s.send("POST", "/orders", "a", "tea"); err != nil {
				s.t.Error(err)
			}
		})
		if i == 0 {
			<-begun
		}
	}
	if !s.sqlite() {
		eventually(s.t, "the others wait for the first", func() bool { return s.waiting(s.t) == n-1 })
	}
	release()
	all.Wait()
	return answers
}

func eachLevel(t *testing.T, d *opened, test func(t *testing.T, level string, with setup)) {
	for name, level := range levels {
		if d.sqlite() && level != levels["default"] {
			continue // it has no other
		}
		t.Run(name, func(t *testing.T) {
			test(t, name, setup{http: []httpscope.Option{httpscope.ScopeOptions(dbscope.Isolation(level))}})
			for _, table := range []string{"orders", "dbscope_requests"} {
				_, err := d.admin.Exec("DELETE FROM " + table)
				must(t, err)
			}
		})
	}
}

const gathered = 6

func TestRequestsThatWaitForTheFirstGetItsAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		eachLevel(t, d, func(t *testing.T, _ string, with setup) {
			begun, goOn := make(chan struct{}, gathered), make(chan struct{})
			s := serve(t, d, with, func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-goOn
				d.ordering(w, r)
			})
			answers := s.gather(gathered, begun, func() { close(goOn) })
			for _, again := range answers[1:] {
				again.wantSame(t, answers[0])
			}
			d.wantStored(t, 1, 1)
			s.wantNothingTold()
		})
	})
}

// MariaDB undoes all but one of those that waited, as a deadlock.
func TestOfRequestsThatWaitForOneThatFailsOneIsServed(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		eachLevel(t, d, func(t *testing.T, _ string, with setup) {
			var calls atomic.Int32
			begun, goOn := make(chan struct{}, gathered), make(chan struct{})
			s := serve(t, d, with, func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-goOn
				if calls.Add(1) == 1 {
					http.Error(w, "refused", http.StatusConflict)
					return
				}
				d.ordering(w, r)
			})
			answers := s.gather(gathered, begun, func() { close(goOn) })
			answers[0].want(t, http.StatusConflict, "refused")
			served := 0
			for _, a := range answers[1:] {
				if a.status != http.StatusCreated || a.body != answers[1].body {
					t.Errorf("one got %v, another %v", a, answers[1])
				}
				if !a.replayed() {
					served++
				}
			}
			if served != 1 {
				t.Errorf("%d were served", served)
			}
			d.wantStored(t, 1, 1)
			s.wantNothingTold()
		})
	})
}
