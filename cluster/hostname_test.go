package cluster_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope/cluster"
)

// A list may come from a service that others write to.
func TestWhatIsNoHostIsLeftOutOfTheListAndTold(t *testing.T) {
	const evil = "p port=5432 user=postgres dbname=template1"
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.primary("p", 1, 10)
		n.primary(evil, 2, 20)
		c := cluster.New(func(context.Context) ([]string, error) { return []string{evil, "p", "r"}, nil }, cluster.ReplicasOnly(),
			cluster.Wait(time.Second))
		defer use(t, c, n)()
		began(t, c)
		if hosts := nodes(c); !slices.Equal(hosts, []string{"p", "r"}) || c.Host() != "p" {
			t.Errorf("the hosts are %q, and %q writes", hosts, c.Host())
		}
		text := fails(t, c, reads, cluster.ErrNoReplica)
		if !strings.Contains(text, "host 1 of the list is none") || strings.Contains(text, "template1") {
			t.Errorf("the error is %s", text)
		}
		if n.asked(evil) != 0 {
			t.Error("it was connected to")
		}
	})
}

func nodes(c *cluster.Cluster) (hosts []string) {
	for _, n := range c.Nodes() {
		hosts = append(hosts, n.Host)
	}
	return hosts
}

func TestAListThatCannotBeAskedForShowsNoPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cluster.New(func(context.Context) ([]string, error) {
			_, err := url.Parse(strings.Join([]string{"http://admin:hunter2", "@patroni/cluster"}, " "))
			return nil, err
		}, cluster.Wait(time.Second))
		defer use(t, c, network())()
		if text := fails(t, c, writes, cluster.ErrNoPrimary); strings.Contains(text, "hunter2") {
			t.Error(text)
		}
	})
}
