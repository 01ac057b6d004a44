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

// began waits until all hosts were asked.
func began(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	_, _ = c.Route(t.Context(), reads)
	time.Sleep(1250 * time.Millisecond) // from here on, not at the moment of a question
}

// R12.
func TestReadsGoToEachFreshReplicaInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 100)
		for _, host := range []string{"a", "b", "c"} {
			n.replica(host, 1, 100)
		}
		n.set("other", func(s *server) { s.row = postgres("t", 1, 100, 78) }) // of another cluster
		c := cluster.New(cluster.List("p", "c", "b", "a", "other"))
		defer use(t, c, n)()
		began(t, c)
		seen := map[string]int{}
		for range 9 {
			r := route(t, c, reads)
			if !r.Replica {
				t.Errorf("%+v", r)
			}
			seen[r.Host]++
			goes(t, c, writes, "p")
		}
		equal(t, "reads", seen, map[string]int{"a": 3, "b": 3, "c": 3})
	})
}

func TestAReplicaThatIsTooFarBehindGetsNoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 0)
		n.replica("r", 1, 0)
		c := cluster.New(cluster.List("p", "r"), cluster.MaxLag(5*time.Second))
		defer use(t, c, n)()
		began(t, c)
		goes(t, c, reads, "r")
		time.Sleep(time.Minute) // nothing is written, so that nobody falls back
		goes(t, c, reads, "r")
		for second := 1; second <= 10; second++ { // it stays at 0
			n.primary("p", 1, second)
			time.Sleep(time.Second)
			lag := c.Nodes()[1].Lag
			if want := time.Duration(second) * time.Second; lag < want-time.Second || lag > want+time.Second/2 {
				t.Errorf("after %d seconds it is called %v behind", second, lag)
			}
			switch {
			case second < 5:
				goes(t, c, reads, "r")
			case second > 6:
				goes(t, c, reads, "p")
			}
		}
		n.replica("r", 1, 8)
		time.Sleep(time.Second)
		goes(t, c, reads, "r")
		n.refuses("p", true) // from now on nobody falls back
		time.Sleep(time.Hour)
		goes(t, c, reads, "r")
	})
}

func TestMaxLagMayBeLongerThanAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 0)
		n.replica("r", 1, 0)
		c := cluster.New(cluster.List("p", "r"), cluster.MaxLag(5*time.Minute))
		defer use(t, c, n)()
		began(t, c)
		for second := 1; second < 295; second++ {
			n.primary("p", 1, second)
			time.Sleep(time.Second)
			goes(t, c, reads, "r")
		}
		for second := 295; second < 310; second++ {
			n.primary("p", 1, second)
			time.Sleep(time.Second)
		}
		goes(t, c, reads, "p")
	})
}

func TestLeastLagPicksTheReplicaThatHasComeFarthest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 100)
		n.replica("a", 1, 100)
		n.replica("b", 1, 100)
		c := cluster.New(cluster.List("p", "a", "b"), cluster.LeastLag())
		defer use(t, c, n)()
		began(t, c)
		n.primary("p", 1, 120)
		n.replica("b", 1, 110)
		time.Sleep(time.Second)
		for range 5 {
			goes(t, c, reads, "b")
		}
		n.replica("a", 1, 120)
		time.Sleep(time.Second)
		for range 5 {
			goes(t, c, reads, "a")
		}
	})
}

func TestWithReplicasOnlyThePrimaryGetsNoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 100)
		n.refuses("r", true)
		c := cluster.New(cluster.List("p", "r"), cluster.ReplicasOnly())
		defer use(t, c, n)()
		goes(t, c, writes, "p")
		time.Sleep(time.Second)
		start := time.Now()
		text := fails(t, c, reads, cluster.ErrNoReplica)
		if !strings.Contains(text, "r connecting: connection refused") || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), text)
		}
		n.refuses("r", false)
		n.replica("r", 1, 100)
		time.Sleep(time.Second)
		goes(t, c, reads, "r")
		fails(t, c, driver.RouteRequest{ReadOnly: true, Behind: true}, cluster.ErrNoReplica)
		fails(t, c, driver.RouteRequest{ReadOnly: true, After: driver.Newest}, cluster.ErrNoReplica)
		n.refuses("p", true)
		n.refuses("r", true)
		time.Sleep(time.Second)
		fails(t, c, reads, cluster.ErrNoReplica) // none that writes either
	})
}

// R14.
func TestAReadThatNeedsAPositionGoesToAReplicaThatHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 2, 200)
		n.replica("a", 2, 150)
		n.replica("b", 2, 200)
		n.replica("c", 1, 300) // it has not followed the new primary yet
		c := cluster.New(cluster.List("p", "a", "b", "c"))
		defer use(t, c, n)()
		began(t, c)
		n.primary("p", 2, 210)
		time.Sleep(time.Second)
		for range 6 {
			goes(t, c, driver.RouteRequest{ReadOnly: true, After: driver.Position{Timeline: 2, Number: 180}}, "b")
		}
		r := route(t, c, driver.RouteRequest{ReadOnly: true, After: driver.Position{Timeline: 2, Number: 205}})
		equal(t, "route", r, driver.Route{Host: "b", Replica: true, After: driver.Position{Timeline: 2, Number: 205}}) // the nearest
		goes(t, c, driver.RouteRequest{ReadOnly: true, After: driver.Newest}, "p")
		goes(t, c, driver.RouteRequest{ReadOnly: true, Behind: true}, "p")
		goes(t, c, driver.RouteRequest{After: driver.Position{Timeline: 2, Number: 180}}, "p")
	})
}

// connect takes a connection, as a session does.
func connect(t testing.TB, n *servers, host string) driver.Conn {
	e, err := n.open(t.Context(), host)
	ok(t, err)
	conn, err := e.Acquire(t.Context())
	ok(t, err)
	t.Cleanup(func() { conn.Release(true); ok(t, e.Close()) })
	return conn
}

type ageless struct{ driver.Conn }

// inside is asked in its transaction.
type inside struct {
	driver.Conn
	driver.CommitQuerier
}

func TestAReplicaIsAskedOnlyWhereItIsNotKnownToHaveComeAsFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 100)
		n.replica("r", 1, 100)
		c := cluster.New(cluster.List("p", "r"))
		t.Cleanup(use(t, c, n))
		began(t, c)
		conn := connect(t, n, "r")
		to := driver.Route{Host: "r", Replica: true, After: driver.Position{Timeline: 1, Number: 100}}
		ready := func(conn driver.Conn, r driver.Route) (yes bool, questions int, took time.Duration) {
			t.Helper()
			before, start := n.asked("r"), time.Now()
			yes, err := c.Ready(t.Context(), conn, r)
			ok(t, err)
			return yes, n.asked("r") - before, time.Since(start)
		}
		is := func(what string, conn driver.Conn, r driver.Route, wantYes bool, wantQuestions int) {
			t.Helper()
			if yes, questions, took := ready(conn, r); yes != wantYes || questions != wantQuestions || yes && took > 0 {
				t.Errorf("%s: %v after %d questions and %v", what, yes, questions, took)
			}
		}
		pooled := func(is bool) {
			n.set("r", func(s *server) { s.pooled = is })
			time.Sleep(time.Second)
		}
		is("a new connection", conn, to, true, 1)
		time.Sleep(time.Second)
		is("one that is older than the last answer", conn, to, true, 0)
		is("one whose age is not known", ageless{conn}, to, true, 1)
		alone := n.get("r").asks
		is("one that is asked in its transaction, which is then a new one", inside{Conn: conn}, to, true, 1)
		equal(t, "the question", n.get("r").asks, alone+"; COMMIT AND CHAIN")
		pooled(true)
		is("one of a pooler, which may have come to another start of the server", conn, to, true, 1)
		pooled(false)
		is("one of no pooler any more", conn, to, true, 0)
		to.After.Number = 101
		is("a position that is not reached", conn, to, false, 6) // 1, 2, 4, 8, 16 ms between
		if _, _, took := ready(conn, to); took > 50*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.AfterFunc(10*time.Millisecond, func() { n.replica("r", 1, 101) })
		yes, _, took := ready(conn, to)
		if !yes || took > 20*time.Millisecond {
			t.Errorf("a position that is reached while it waits: %v after %v", yes, took)
		}
		// It was promoted without what was written last.
		n.primary("r", 2, 90)
		if yes, _, _ := ready(ageless{conn}, to); yes {
			t.Error("a new primary that lacks the position is ready")
		}
		is("the primary", conn, driver.Route{Host: "p"}, true, 0)
		n.set("r", func(s *server) { s.err = errRefused })
		if _, err := c.Ready(t.Context(), conn, driver.Route{Host: "r", Replica: true, After: driver.Newest}); !errors.Is(err, errRefused) {
			t.Errorf("error is %v", err)
		}
		n.set("r", func(s *server) { s.err = nil; s.row = nil })
		if _, err := c.Ready(t.Context(), conn, driver.Route{Host: "r", Replica: true, After: driver.Newest}); err == nil {
			t.Error("an answer that makes no sense")
		}
		n.replica("r", 1, 100)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		if _, err := c.Ready(ctx, conn, to); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
	})
}
