package idempotent_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/idempotent"
	"github.com/dbscope/dbscope/tests/cable"
	"github.com/dbscope/dbscope/tests/wire"
)

// campaignVariable is how many orders are placed on each database. Without it there are
// few, and each fault happens once.
const campaignVariable = "IDEMPOTENT"

const campaignClients = 50

// campaign is one on one database.
type campaign struct {
	t       *testing.T
	d       *opened
	victim  *victim
	clients *cable.Cable // between the clients and the service
	faults  map[string]func()
	happens map[string]int

	disturbed                atomic.Bool // each fault has happened
	requests, again, replays atomic.Int64
	mu                       sync.Mutex
	answers                  map[string][]string // by the names of the orders
}

// server is one that can be killed.
type server interface {
	Kill()
	Restart(t testing.TB)
	Port() int
}

// newCampaign starts the database, the service and what lies between them.
func newCampaign(t *testing.T, d database) *campaign {
	c := &campaign{t: t, answers: map[string][]string{}, happens: map[string]int{}}
	var through func(string) string
	c.faults = map[string]func(){
		"the service is killed":          func() { c.victim.kill(syscall.SIGKILL); c.victim.start() },
		"connections of clients are cut": func() { c.clients.Cut(0.3) },
	}
	restarts := func(s server) func() { return func() { s.Kill(); s.Restart(t) } }
	switch {
	case d.postgres():
		s := pgtest.Start(t)
		proxy := wire.Start(t, "127.0.0.1:"+strconv.Itoa(s.Port()))
		d.dsn = func(t testing.TB) string { return s.CreateDatabase(t) }
		through = proxy.DSN
		c.faults["PostgreSQL is killed"] = restarts(s)
		c.faults["the answer to a COMMIT is cut"] = func() {
			proxy.Cut(wire.CutAt{Message: "CommandComplete", Containing: "COMMIT", When: pick(wire.Before, wire.During), Times: 3})
		}
		c.faults["a COMMIT is cut"] = func() {
			for _, text := range []string{"commit", "COMMIT"} {
				proxy.Cut(wire.CutAt{Message: "Query", Containing: text, When: pick(wire.Before, wire.During, wire.After)})
			}
		}
		c.faults["all connections to PostgreSQL are cut"] = proxy.CloseAll
	case d.name == "MariaDB":
		s := mariatest.Start(t)
		line := cable.Lay(t, "127.0.0.1:"+strconv.Itoa(s.Port()))
		d.dsn = func(t testing.TB) string { return s.CreateDatabase(t) }
		through = func(dsn string) string {
			return strings.Replace(dsn, "127.0.0.1:"+strconv.Itoa(s.Port()), line.Addr(), 1)
		}
		c.faults["MariaDB is killed"] = restarts(s)
		c.faults["connections to MariaDB are cut"] = func() { line.Cut(0.3) }
	}
	c.d = open(t, &d, through)
	dsn := c.d.dsnOf
	if through != nil {
		dsn = through(dsn)
	}
	c.victim = startVictim(t, &d, dsn)
	c.clients = cable.Lay(t, c.victim.addr())
	return c
}

func pick[T any](from ...T) T { return from[rand.IntN(len(from))] }

// Whatever fails meanwhile, each order is stored once, and each answer to it is the same.
func TestACampaignOfRequestsThatAreRepeatedUntilTheyAreAnswered(t *testing.T) {
	orders := 250
	if text := os.Getenv(campaignVariable); text != "" {
		var err error
		orders, err = strconv.Atoi(text)
		must(t, err)
	}
	for _, d := range databases {
		if d.name == "MySQL" {
			continue // nothing of it differs from MariaDB here
		}
		t.Run(d.name, func(t *testing.T) { newCampaign(t, d).run(orders) })
	}
}

func (c *campaign) run(orders int) {
	began := time.Now()
	over := make(chan struct{})
	go func() {
		defer close(over)
		var all sync.WaitGroup
		for n := range campaignClients {
			all.Go(func() { c.client(n, orders/campaignClients) })
		}
		all.Wait()
	}()
	c.disturb(over)
	c.check(max(orders/campaignClients*campaignClients, len(c.answers)))
	c.t.Logf("%v: %d orders, %d requests, %d of them repeated ones and %d duplicates side by side, %d stored answers",
		time.Since(began).Round(time.Millisecond), len(c.answers), c.requests.Load(), c.again.Load(), c.duplicates(), c.replays.Load())
	for _, name := range slices.Sorted(maps.Keys(c.happens)) {
		c.t.Logf("%4d times %s", c.happens[name], name)
	}
}

// disturb makes faults happen until the clients are done, for which each must have
// happened.
func (c *campaign) disturb(over <-chan struct{}) {
	names := slices.Sorted(maps.Keys(c.faults))
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond):
		}
		name := names[i%len(names)]
		if i >= len(names) {
			name = pick(names...)
		}
		if i >= len(names) && strings.Contains(name, "killed") && rand.IntN(8) > 0 {
			continue // after which nothing works for seconds
		}
		c.faults[name]()
		if c.happens[name]++; i+1 == len(names) {
			c.disturbed.Store(true)
		}
	}
}

// client places so many orders, or more until all faults have happened; each until it
// has an answer. Some of them it sends twice or more at once.
func (c *campaign) client(number, orders int) {
	transport := &http.Transport{ResponseHeaderTimeout: 20 * time.Second}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: &idempotent.Transport{
		Base: counting{transport, &c.requests}, Attempts: 1_000_000, MinDelay: 5 * time.Millisecond, MaxDelay: time.Second,
	}}
	for n := 0; n < orders || !c.disturbed.Load() && !c.t.Failed(); n++ {
		name := fmt.Sprintf("order-%d-%d", number, n)
		copies := 1
		if rand.IntN(4) == 0 {
			copies = 2 + rand.IntN(3)
		}
		var all sync.WaitGroup
		for range copies {
			all.Go(func() { c.place(client, name) })
		}
		all.Wait()
	}
}

// counting counts requests.
type counting struct {
	*http.Transport
	n *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.Transport.RoundTrip(r)
}

// patience is how long an order may take at most.
const patience = 3 * time.Minute

func (c *campaign) place(client *http.Client, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.clients.Addr()+"/orders", strings.NewReader(name))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Idempotency-Key", "key-of-"+name)
	resp, err := client.Do(r)
	if err != nil {
		c.t.Errorf("%s: %v", name, err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusCreated {
		c.t.Errorf("%s was answered with %d %.300s: %v", name, resp.StatusCode, body, err)
	}
	if resp.Header.Get(idempotent.ReplayedHeader) != "" {
		c.replays.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[name] = append(c.answers[name], string(body))
}

func (c *campaign) duplicates() (n int) {
	for _, answers := range c.answers {
		n += len(answers) - 1
	}
	return n
}

// check compares what is stored with the answers.
func (c *campaign) check(orders int) {
	if len(c.answers) != orders {
		c.t.Errorf("%d orders were answered, want %d", len(c.answers), orders)
	}
	stored, err := c.d.storedOrders(c.t.Context())
	must(c.t, err)
	if len(stored) != orders {
		c.t.Errorf("%d orders are stored, want %d", len(stored), orders)
	}
	wrong := 0
	answered := int64(0)
	for name, answers := range c.answers {
		answered += int64(len(answers))
		if rows := stored[name]; len(rows) != 1 || slices.ContainsFunc(answers, func(a string) bool { return a != rows[0] }) {
			if wrong++; wrong < 10 {
				c.t.Errorf("%s is stored as %q and was answered with %q", name, rows, answers)
			}
		}
	}
	c.again.Store(c.requests.Load() - answered)
	c.d.wantStored(c.t, orders, orders)
}
