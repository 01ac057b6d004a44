package cluster_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
)

// R14.
func TestMariaDBsAnswersAreReadForTheDomain(t *testing.T) {
	for name, c := range map[string]struct {
		row     []string
		primary bool
		number  uint64
		bad     bool
	}{
		"a primary":               {[]string{"0", "0-1-42", "0"}, true, 42, false},
		"a replica":               {[]string{"1", "0-1-42", "0"}, false, 42, false},
		"several domains":         {[]string{"1", "1-1-7,0-2-42,10-3-9", "0"}, false, 42, false},
		"a domain of two digits":  {[]string{"1", "1-1-7,11-2-42", "11"}, false, 42, false},
		"one that is a beginning": {[]string{"1", "11-2-42,1-1-7", "1"}, false, 7, false},
		"with spaces":             {[]string{"1", "1-1-7, 0-2-42", "0"}, false, 42, false},
		"nothing written yet":     {[]string{"0", "", "0"}, true, 0, false},
		"nothing of the domain":   {[]string{"1", "1-1-7", "0"}, false, 0, false},
		"no number":               {[]string{"0", "0-1-x", "0"}, false, 0, true},
		"no domain":               {[]string{"0", "0-1-4", ""}, false, 0, true},
		"another server":          {[]string{"f", "100"}, false, 0, true},
		"none":                    {nil, false, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := network()
				n.set("a", func(s *server) { s.row = c.row })
				nodes := cluster.New(cluster.List("a"), cluster.MariaDB(), cluster.Wait(time.Millisecond))
				defer use(t, nodes, n)()
				_, _ = nodes.Route(t.Context(), writes)
				node := nodes.Nodes()[0]
				if node.Primary != c.primary || node.Position.Number != c.number || (node.Err != nil) != c.bad {
					t.Errorf("it is read as %+v", node)
				}
			})
		})
	}
}

func TestTwoMariaDBsThatWriteAreASplitBrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.set("a", func(s *server) { s.row = []string{"0", "0-1-42", "0"} })
		n.set("b", func(s *server) { s.row = []string{"0", "0-2-50", "0"} })
		c := cluster.New(cluster.List("a", "b"), cluster.MariaDB(), cluster.Wait(time.Second))
		defer use(t, c, n)()
		began(t, c)
		fails(t, c, writes, cluster.ErrSplitBrain)
		n.set("a", func(s *server) { s.row = []string{"1", "0-2-50", "0"} })
		time.Sleep(time.Second)
		goes(t, c, writes, "b")
		goes(t, c, driver.RouteRequest{ReadOnly: true, After: driver.Position{Number: 50}}, "a")
	})
}

func TestAPositionIsReadFromTheAnswersAroundACommit(t *testing.T) {
	for name, c := range map[string]struct {
		opts          []cluster.Option
		before, after []string
		want          driver.Position
		wrote         bool
	}{
		"PostgreSQL":                        {nil, []string{"700", "on"}, []string{"1/AB00CD10", "1/AB00CE00", "0000000300000001000000AB"}, driver.Position{Timeline: 3, Number: 0x1AB00CD10}, true},
		"PostgreSQL, not durable yet":       {nil, []string{"700", "off"}, []string{"1/AB00CD10", "1/AB00CE00", "0000000300000001000000AB"}, driver.Position{Timeline: 3, Number: 0x1AB00CE00}, true},
		"PostgreSQL, nothing written":       {nil, []string{"", "on"}, []string{"1/AB00CD10", "1/AB00CD10", "0000000300000001000000AB"}, driver.Position{}, false},
		"PostgreSQL, nothing sent":          {nil, nil, []string{}, driver.Position{}, false},
		"PostgreSQL, an answer of no sense": {nil, []string{"700", "on"}, []string{"1/AB00CD10", "1/AB00CD10", "?"}, driver.Newest, true},
		"PostgreSQL, no answer":             {nil, []string{"700", "on"}, nil, driver.Newest, true},
		"MariaDB":                           {maria, []string{"0-1-41"}, []string{"0-1-42"}, driver.Position{Number: 42}, true},
		"MariaDB, the first":                {maria, []string{""}, []string{"0-1-1"}, driver.Position{Number: 1}, true},
		"MariaDB, nothing written":          {maria, []string{"0-1-42"}, []string{"0-1-42"}, driver.Position{}, false},
		"MariaDB, an answer of no sense":    {maria, []string{"0-1-42"}, []string{"?"}, driver.Newest, true},
	} {
		p, wrote := cluster.New(nil, c.opts...).Position(c.before, c.after)
		if p != c.want || wrote != c.wrote {
			t.Errorf("%s: got %+v, %v", name, p, wrote)
		}
	}
}

var maria = []cluster.Option{cluster.MariaDB()}
