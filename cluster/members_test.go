package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// finder is a list of hosts that changes.
type finder struct {
	mu    sync.Mutex
	hosts []string
	err   error
	calls int
}

func (f *finder) find(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return slices.Clone(f.hosts), f.err
}

func (f *finder) set(err error, hosts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts, f.err = hosts, err
}

func (f *finder) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func hosts(c *cluster.Cluster) string {
	var all []string
	for _, n := range c.Nodes() {
		all = append(all, n.Host)
	}
	return strings.Join(all, " ")
}

// R12: hosts are discovered.
func TestHostsThatAreFoundComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, f := network(), &finder{hosts: []string{"a", "b", "b"}}
		n.primary("a", 1, 100)
		n.replica("b", 1, 100)
		n.replica("c", 1, 100)
		c := cluster.New(f.find)
		equal(t, "calls before the first session", f.called(), 0)
		var gone []string
		leave := useTold(t, c, n, func(host string, forGood bool) {
			if forGood {
				gone = append(gone, host)
			}
		})
		defer leave()
		began(t, c)
		equal(t, "hosts", hosts(c), "a b")
		goes(t, c, reads, "b")
		f.set(nil, "c", "a")
		time.Sleep(11 * time.Second)
		equal(t, "hosts", hosts(c), "a c")
		equal(t, "gone", gone, []string{"b"})
		time.Sleep(time.Second)
		goes(t, c, reads, "c")
		n.mu.Lock()
		equal(t, "connections of the cluster", n.conns, 2)
		n.mu.Unlock()
		// Neither an error nor an empty list takes hosts away.
		for _, err := range []error{errRefused, nil} {
			f.set(err)
			time.Sleep(20 * time.Second)
			equal(t, "hosts", hosts(c), "a c")
			goes(t, c, writes, "a")
		}
		leave()
		equal(t, "gone", gone, []string{"b"})
		equal(t, "hosts", hosts(c), "")
	})
}

// Sessions may be waiting for a connection there.
func TestAHostIsLeftWhenOthersTakeItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		n.replica("b", 1, 100)
		n.replica("c", 1, 100)
		var left []string
		c := cluster.New(cluster.List("a", "b", "c"))
		leave := useTold(t, c, n, func(host string, _ bool) { left = append(left, host) })
		defer leave()
		began(t, c)
		steps := []struct {
			what   string
			change func()
			left   string
		}{
			{"nothing happens", func() {}, "[]"},
			{"a replica is silent", func() { n.silent("c", true) }, "[c]"},
			{"it answers again", func() { n.silent("c", false) }, "[]"},
			{"it is gone", func() { n.refuses("c", true) }, "[c]"},
			{"the primary is silent, and there is no other", func() { n.silent("a", true) }, "[]"},
			{"a replica is promoted", func() { n.primary("b", 2, 110) }, "[a]"},
			{"the old primary follows", func() { n.silent("a", false); n.replica("a", 2, 110) }, "[]"},
			{"the roles change", func() { n.primary("a", 3, 120); n.replica("b", 3, 120) }, "[b]"},
		}
		for _, step := range steps {
			left = nil
			step.change()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			equal(t, "left when "+step.what, left, step.left)
		}
	})
}

func TestHostsAreLookedForEachSecondWhileNoneWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, f := network(), &finder{hosts: []string{"a"}}
		n.primary("a", 1, 100)
		n.primary("b", 2, 100)
		c := cluster.New(f.find)
		defer use(t, c, n)()
		began(t, c)
		calls := f.called()
		time.Sleep(30 * time.Second)
		if n := f.called() - calls; n != 3 {
			t.Errorf("%d calls in 30 seconds", n)
		}
		n.refuses("a", true)
		f.set(nil, "a", "b")
		time.Sleep(2 * time.Second)
		equal(t, "the host", c.Host(), "b")
	})
}

func TestWithoutHostsTheErrorSaysWhy(t *testing.T) {
	for name, find := range map[string]func(context.Context) ([]string, error){
		"finding the hosts: connection refused": func(context.Context) ([]string, error) { return nil, errRefused },
		"finding the hosts: there are none":     cluster.List(),
		"finding the hosts: it has not answered yet": func(ctx context.Context) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := cluster.New(find, cluster.Wait(time.Second))
			defer use(t, c, network())()
			for _, need := range []driver.RouteRequest{writes, reads} {
				if text := fails(t, c, need, cluster.ErrNoPrimary); !strings.Contains(text, name) {
					t.Errorf("error is %v, want one that says %q", text, name)
				}
			}
		})
	}
}

func TestAKeyThatIsTooShortIsAnErrorOfTheFirstSession(t *testing.T) {
	c := cluster.New(cluster.List("a"), cluster.SignedBy(make([]byte, 32), make([]byte, 31)))
	defer use(t, c, network())()
	_, err := c.Route(t.Context(), writes)
	if err == nil || !strings.Contains(err.Error(), "shorter than 32 bytes") {
		t.Errorf("error is %v", err)
	}
}

func TestSeveralDBsShareAClusterUntilTheLastIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		c := cluster.New(cluster.List("a"))
		one, two := c.Use(n.open, nil), c.Use(n.open, nil)
		goes(t, c, writes, "a")
		time.Sleep(time.Minute)
		equal(t, "connections", n.get("a").dialed, 1)
		ok(t, one())
		ok(t, one()) // twice
		asked := n.asked("a")
		time.Sleep(time.Minute)
		if n.asked("a") < asked+100 {
			t.Error("it is not watched any more")
		}
		goes(t, c, writes, "a")
		ok(t, two())
		asked = n.asked("a")
		time.Sleep(time.Minute)
		equal(t, "questions after the end", n.asked("a")-asked, 0)
		_, err := c.Route(t.Context(), writes)
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("error is %v", err)
		}
		// And a DB that is made later.
		other := network()
		other.primary("a", 1, 200)
		three := use(t, c, other)
		goes(t, c, writes, "a")
		equal(t, "connections of the new one", other.get("a").dialed, 1)
		three()
	})
}

func TestASessionThatWaitsWhileTheLastDBIsClosedIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.refuses("a", true)
		c := cluster.New(cluster.List("a"))
		leave := c.Use(n.open, nil)
		time.AfterFunc(time.Second, func() { ok(t, leave()) })
		start := time.Now()
		_, err := c.Route(t.Context(), writes)
		if err == nil || !strings.Contains(err.Error(), "closed") || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// A cluster that is left and used again at the same time is either watched or not.
func TestAClusterMayBeLeftAndUsedAtOnce(t *testing.T) {
	n := network()
	n.primary("a", 1, 100)
	c := cluster.New(cluster.List("a"), cluster.PollEvery(20*time.Millisecond))
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 50 {
				leave := c.Use(n.open, func(string, bool) {})
				_, err := c.Route(t.Context(), writes)
				if err := errors.Join(err, leave()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	if n.engines != 0 || n.conns != 0 || hosts(c) != "" {
		t.Errorf("%d pools, %d connections and the hosts %q are left", n.engines, n.conns, hosts(c))
	}
}

func TestUnitsGoOnWhileHostsFlap(t *testing.T) {
	n := network()
	f := &finder{hosts: []string{"a", "b", "c"}}
	n.primary("a", 1, 100)
	n.replica("b", 1, 100)
	n.replica("c", 1, 100)
	c := cluster.New(f.find, cluster.PollEvery(20*time.Millisecond), cluster.SignedBy(make([]byte, 32)))
	defer use(t, c, n)()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				need := driver.RouteRequest{ReadOnly: i%2 == 0}
				r, err := c.Route(t.Context(), need)
				if err != nil || !need.ReadOnly && r.Host != "a" {
					t.Errorf("%+v went to %q, %v", need, r.Host, err)
					return
				}
				if rand.IntN(100) == 0 {
					c.Failed(r.Host, errRefused)
				}
				_, _ = c.Nodes(), c.Sign(driver.Position{Number: 1}, nil)
			}
		})
	}
	for range 200 {
		host := []string{"b", "c"}[rand.IntN(2)]
		n.refuses(host, rand.IntN(2) == 0)
		time.Sleep(time.Millisecond)
	}
	close(stop)
	all.Wait()
}

// The whole way, with a DB on top.
func TestADBFollowsItsCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		n.replica("b", 1, 100)
		f := &finder{hosts: []string{"a", "b"}}
		c := cluster.New(f.find)
		leave := use(t, c, n) // so that the questions are the stubs'
		fake := drivertest.NewFake()
		db := fake.DB(dbscope.Router(c))
		unit := func(opts ...dbscope.Option) {
			t.Helper()
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") }, opts...))
		}
		unit()
		time.Sleep(time.Second)
		unit(dbscope.ReadOnly())
		f.set(nil, "a")
		time.Sleep(11 * time.Second)
		unit(dbscope.ReadOnly())
		n.refuses("a", true)
		n.primary("c", 2, 100)
		f.set(nil, "c")
		time.Sleep(2 * time.Second)
		unit()
		equal(t, "the host", db.Host(), "c")
		var pools []string
		for _, call := range fake.Log() {
			if strings.HasPrefix(call, "open ") || call == "close" {
				pools = append(pools, call)
			}
		}
		equal(t, "pools", pools, "[open a open b close close open c]")
		ok(t, db.Close())
		leave()
	})
}

func ExampleList() {
	nodes := cluster.New(cluster.List("10.0.0.1", "10.0.0.2"), cluster.MaxLag(5*time.Second))
	fmt.Println(len(nodes.Nodes()), "hosts before the first session")
	// Output: 0 hosts before the first session
}
