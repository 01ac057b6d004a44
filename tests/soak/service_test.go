package soak_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// service is an HTTP server on the databases, with its clients.
type service struct {
	world  *world
	server *httptest.Server
	client *http.Client
	units  sync.Map       // of requests under way, by id
	left   sync.WaitGroup // goroutines that handlers have left behind
	names  []string       // of the kinds

	last                 atomic.Int64 // unit
	requests, unanswered atomic.Int64
	yes, no, unknown     atomic.Int64 // groups of rows

	mu       sync.Mutex
	faults   []error
	answered map[string]int // requests of each kind that were done
}

func newService(w *world) *service {
	s := &service{world: w, answered: map[string]int{}}
	for name := range kinds {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	policy := dbscope.RetryPolicy{Attempts: 4, MinDelay: time.Millisecond}
	told := httpscope.OnError(func(r *http.Request, err error) { s.unit(r).tell(err) })
	handle := http.HandlerFunc(s.serve)
	mux := http.NewServeMux()
	mux.Handle("/", httpscope.Middleware(told, httpscope.ReadOnlySafeMethods())(handle))
	mux.Handle("/retried", httpscope.Middleware(told, httpscope.Retry(policy, 1<<16),
		httpscope.ScopeOptions(dbscope.Isolation(sql.LevelSerializable)))(handle))
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u := s.unit(r); u != nil && u.seen.CompareAndSwap(false, true) { // else its client has gone
			defer close(u.over)
			mux.ServeHTTP(w, r)
		}
	}))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.server.Start()
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	return s
}

func (s *service) close() {
	s.client.CloseIdleConnections()
	s.server.Close()
}

func (s *service) unit(r *http.Request) *unit {
	if u, known := s.units.Load(r.URL.Query().Get("unit")); known {
		return u.(*unit)
	}
	return nil
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	first, err := strconv.Atoi(query.Get("first"))
	second, err2 := strconv.Atoi(query.Get("second"))
	if err = errors.Join(err, err2); err != nil {
		panic(err)
	}
	u := s.unit(r)
	u.begins()
	c := &call{ctx: r.Context(), w: w, r: r, u: u, s: s, db: s.world.databases[first], second: s.world.databases[second]}
	u.panicked = true // unless it returns: pgx's large objects panic without a connection, too
	err = kinds[u.kind](c)
	u.panicked = false
	switch {
	case errors.Is(err, errAnswered):
	case err != nil:
		c.answer(http.StatusServiceUnavailable)
	default:
		c.answer(http.StatusOK)
	}
}

// answer decides the status.
func (c *call) answer(status int) {
	c.u.mu.Lock()
	c.u.status = status
	c.u.mu.Unlock()
	c.w.WriteHeader(status)
}

const clients = 24

// load sends requests until the context is done, and returns when all are over.
func (s *service) load(ctx context.Context) {
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if !s.request() {
					time.Sleep(2 * time.Millisecond) // while a server is down
				}
			}
		})
	}
	all.Wait()
	s.left.Wait()
}

// patience is how long a request may take at most.
const patience = 90 * time.Second

// request sends one and notes what must have become of its rows. It reports
// whether that was done.
func (s *service) request() bool {
	u := &unit{id: s.last.Add(1), kind: pick(s.names), over: make(chan struct{})}
	id := strconv.FormatInt(u.id, 10)
	s.units.Store(id, u)
	defer s.units.Delete(id)
	first := rand.IntN(len(s.world.databases) - 1)
	second := first + 1 + rand.IntN(len(s.world.databases)-first-1)
	if rand.IntN(len(s.world.databases)) == 0 {
		first = second // so that the last one is used alone, too
	}
	if first == second && (u.kind == "two databases" || u.kind == "commit together") {
		first = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if u.kind == "a client that gives up" || rand.IntN(20) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(8_000))*time.Microsecond, cancel)
	}
	path, method := "/", http.MethodPost
	switch u.kind {
	case "conflict/of requests":
		path = "/retried"
	case "stream of reads":
		method = http.MethodGet
	}
	query := url.Values{"unit": {id}, "first": {strconv.Itoa(first)}, "second": {strconv.Itoa(second)}}
	status := s.send(ctx, method, path, query)
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		s.fail(fmt.Errorf("unit %d, %s on %s: no answer within %v", u.id, u.kind, s.world.databases[first].name, patience))
	}
	if !u.seen.CompareAndSwap(false, true) {
		<-u.over
	}
	s.note(u, status)
	return status > 0 && status < 500
}

// send returns the status, 0 where there was no answer.
func (s *service) send(ctx context.Context, method, path string, query url.Values) (status int) {
	r, err := http.NewRequestWithContext(ctx, method, s.server.URL+path+"?"+query.Encode(), nil)
	if err != nil {
		panic(err)
	}
	res, err := s.client.Do(r)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// note takes down what was decided for the request's groups.
func (s *service) note(u *unit, status int) {
	s.requests.Add(1)
	if err := u.resolve(status); err != nil {
		s.fail(err)
	}
	if status == 0 {
		s.unanswered.Add(1)
	}
	for _, g := range u.groups {
		g.db.ledger.add(u, status, g)
		switch g.fate {
		case stored:
			s.yes.Add(1)
		case absent:
			s.no.Add(1)
		default:
			s.unknown.Add(1)
		}
	}
	if status > 0 && status < 400 {
		s.mu.Lock()
		s.answered[u.kind]++
		s.mu.Unlock()
	}
}

func (s *service) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}
