package cluster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
)

// R12.
func TestNoPrimaryIsAnErrorInTimeThatNamesEachHostAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.replica("b", 1, 90)
		n.refuses("c", true)
		n.silent("d", true)
		n.set("e", func(s *server) { s.row = []string{"what"} })
		c := cluster.New(cluster.List("b", "c", "d", "e"), cluster.Wait(3*time.Second))
		defer use(t, c, n)()
		start := time.Now()
		text := fails(t, c, writes, cluster.ErrNoPrimary)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
		for _, want := range []string{"b is a replica", "c connecting: connection refused", "d connecting: context deadline exceeded", `e the server answered ["what"]`, "after 3s"} {
			if !strings.Contains(text, want) {
				t.Errorf("the error lacks %q: %v", want, text)
			}
		}
		equal(t, "the host", c.Host(), "")
	})
}

func TestASessionThatIsCancelledWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		c := cluster.New(cluster.List("a"))
		defer use(t, c, n)()
		why := errors.New("the client has gone")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		_, err := c.Route(ctx, writes)
		if !errors.Is(err, why) || !errors.Is(err, cluster.ErrNoPrimary) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestASessionWaitsForAPrimaryAndGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.replica("a", 1, 90)
		c := cluster.New(cluster.List("a"))
		defer use(t, c, n)()
		time.AfterFunc(4050*time.Millisecond, func() { n.primary("a", 2, 90) })
		start := time.Now()
		goes(t, c, writes, "a")
		if d := time.Since(start); d < 4050*time.Millisecond || d > 4200*time.Millisecond {
			t.Errorf("it came after %v", d)
		}
		equal(t, "the host", c.Host(), "a")
	})
}

func TestOfTwoPrimariesTheOneOfTheLaterTimelineWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 3, 500)
		n.primary("b", 4, 400)
		n.primary("c", 3, 600)
		c := cluster.New(cluster.List("a", "b", "c"))
		defer use(t, c, n)()
		route(t, c, writes)
		time.Sleep(time.Second)
		goes(t, c, writes, "b")
		for _, node := range c.Nodes() {
			if node.Fresh {
				t.Errorf("%s gets reads", node.Host)
			}
		}
	})
}

func TestTwoPrimariesOfOneTimelineAreASplitBrain(t *testing.T) {
	for name, b := range map[string][]string{
		"of one timeline": postgres("f", 3, 400, 77), "of two clusters": postgres("f", 4, 400, 78),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := network()
				n.primary("a", 3, 500)
				n.set("b", func(s *server) { s.row = b })
				c := cluster.New(cluster.List("a", "b"), cluster.Wait(time.Second))
				defer use(t, c, n)()
				_, _ = c.Route(t.Context(), writes)
				time.Sleep(time.Second)
				text := fails(t, c, writes, cluster.ErrSplitBrain)
				if !strings.Contains(text, "a accepts writes (timeline 3)") || !strings.Contains(text, "b accepts writes") {
					t.Errorf("error is %v", text)
				}
				n.refuses("b", true)
				goes(t, c, writes, "a")
			})
		})
	}
}

func TestAPrimaryOfATimelineThatIsOverDoesNotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("new", 4, 500)
		n.primary("old", 3, 900)
		c := cluster.New(cluster.List("new", "old"), cluster.Wait(time.Second))
		defer use(t, c, n)()
		route(t, c, writes)
		time.Sleep(time.Second)
		goes(t, c, writes, "new")
		n.refuses("new", true)
		time.Sleep(time.Second)
		text := fails(t, c, writes, cluster.ErrNoPrimary)
		if !strings.Contains(text, "host old does, on timeline 3, but timeline 4 was seen") {
			t.Errorf("error is %v", text)
		}
		// A cluster that was made anew counts from the beginning.
		n.set("old", func(s *server) { s.row = postgres("f", 1, 10, 78) })
		goes(t, c, writes, "old")
	})
}

// R12: what the network does for three seconds is forgiven, a server that is
// gone is not.
func TestASilentHostCountsAsItWasForThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		n.replica("b", 1, 100)
		c := cluster.New(cluster.List("a", "b"), cluster.Wait(time.Nanosecond))
		defer use(t, c, n)()
		_, _ = c.Route(t.Context(), writes)
		time.Sleep(10 * time.Millisecond)
		n.silent("a", true)
		n.silent("b", true)
		for range 25 {
			time.Sleep(100 * time.Millisecond)
			goes(t, c, writes, "a")
			goes(t, c, reads, "b")
		}
		time.Sleep(2500 * time.Millisecond) // a question takes as long
		fails(t, c, writes, cluster.ErrNoPrimary)
		fails(t, c, reads, cluster.ErrNoPrimary)
		n.silent("a", false)
		time.Sleep(2 * time.Second)
		goes(t, c, writes, "a")
		goes(t, c, reads, "a")
	})
}

func TestAHostThatRefusesDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		n.replica("b", 1, 100)
		c := cluster.New(cluster.List("a", "b"), cluster.Wait(time.Nanosecond))
		defer use(t, c, n)()
		_, _ = c.Route(t.Context(), writes)
		time.Sleep(time.Second)
		n.refuses("b", true)
		time.Sleep(501 * time.Millisecond)
		goes(t, c, reads, "a")
		n.refuses("a", true)
		time.Sleep(501 * time.Millisecond)
		fails(t, c, writes, cluster.ErrNoPrimary)
	})
}

func TestAHostOnWhichASessionFailsIsAskedAtOnceButNotWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		c := cluster.New(cluster.List("a"), cluster.PollEvery(time.Hour))
		defer use(t, c, n)()
		goes(t, c, writes, "a")
		time.Sleep(time.Minute)
		equal(t, "questions", n.asked("a"), 1)
		c.Failed("a", errRefused)
		c.Failed("a host of another time", errRefused)
		equal(t, "the host", c.Host(), "") // until it has answered
		start := time.Now()
		goes(t, c, writes, "a")
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
		equal(t, "questions", n.asked("a"), 2)
		for range 1000 { // a second
			c.Failed("a", errRefused)
			time.Sleep(time.Millisecond)
		}
		if n := n.asked("a"); n < 40 || n > 53 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestASessionTriesNoMoreThanTwentyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		c := cluster.New(cluster.List("a"))
		defer use(t, c, n)()
		goes(t, c, writes, "a")
		goes(t, c, driver.RouteRequest{Failures: 19}, "a")
		_, err := c.Route(t.Context(), driver.RouteRequest{Failures: 20})
		if err == nil || !strings.Contains(err.Error(), "none of 20 connections could be made") {
			t.Errorf("error is %v", err)
		}
	})
}

// A server that was started again closes its connections.
func TestAConnectionThatIsLostIsMadeAnewBeforeTheHostCountsAsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("a", 1, 100)
		c := cluster.New(cluster.List("a"))
		defer use(t, c, n)()
		goes(t, c, writes, "a")
		n.set("a", func(s *server) { s.lost = true })
		time.Sleep(600 * time.Millisecond)
		equal(t, "the host", c.Host(), "a")
		equal(t, "connections", n.get("a").dialed, 2)
	})
}
