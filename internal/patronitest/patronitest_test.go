package patronitest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/patronitest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

// patience is for all that one fault brings, on a busy machine.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(endVariable) != "" {
		endBadly() // in a child process of TestClusterDoesNotOutliveItsTestBinary
	}
	os.Exit(m.Run())
}

// endVariable makes this test binary start a cluster and wait to be killed.
const endVariable = "DBSCOPE_PATRONITEST_END"

// endBadly starts a cluster that nothing cleans up after, and stops half of it.
func endBadly() {
	c, err := patronitest.New(context.Background())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, n := range c.Nodes()[:2] {
		if err := n.Freeze(); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(c.Dir(), c.Keeper())
	select {}
}

// The cluster is one, since a start takes some seconds; each part leaves it
// healthy.
func TestCluster(t *testing.T) {
	begin := time.Now()
	c := patronitest.Start(t)
	t.Logf("healthy after %.1f s", time.Since(begin).Seconds())
	leader, err := c.Leader(t.Context())
	ok(t, err)
	query(t, leader.DSN(), "create table orders (id int)")
	orders := 0
	order := func(t *testing.T, n *patronitest.Node) {
		t.Helper()
		orders++
		// Psql would not wait for the replica.
		query(t, n.DSN(), fmt.Sprintf("set synchronous_commit = on; insert into orders values (%d)", orders))
	}

	t.Run("has a primary and two replicas", func(t *testing.T) {
		order(t, leader)
		primaries := 0
		for i, n := range c.Nodes() {
			if c.Hosts()[i] != n.Host() || !strings.Contains(n.DSN(), "app:secret@"+n.Host()+"/shop") {
				t.Errorf("host %s, DSN %s; hosts are %v", n.Host(), n.DSN(), c.Hosts())
			}
			if query(t, n.DSN(), "select pg_is_in_recovery()") == "f" {
				primaries++
			}
		}
		if primaries != 1 || query(t, leader.DSN(), "select pg_is_in_recovery()") != "f" {
			t.Errorf("%d primaries, and %s says it is a replica", primaries, leader)
		}
		status, err := c.Status(t.Context())
		ok(t, err)
		if status.Leader != leader.Name() || status.Sync == "" || len(status.Members) != 3 {
			t.Errorf("%+v", status)
		}
	})

	// With a replica, the cluster's writes go on. In each case the table says
	// what a client meets at the node meanwhile.
	for _, f := range []struct {
		name     string
		do, undo func(*patronitest.Node) error
		meets    error
	}{
		{"frozen", (*patronitest.Node).Freeze, (*patronitest.Node).Thaw, errSilence},
		{"cut", (*patronitest.Node).Cut, (*patronitest.Node).Heal, errRefused},
		{"stalled", (*patronitest.Node).Stall, (*patronitest.Node).Heal, errSilence},
		{"killed", (*patronitest.Node).Kill, (*patronitest.Node).Restart, errRefused},
	} {
		t.Run("a replica is "+f.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			leader, err := c.Leader(ctx)
			ok(t, err)
			replica := c.Nodes()[0]
			if replica == leader {
				replica = c.Nodes()[1]
			}
			ok(t, f.do(replica))
			if err := meet(replica.Host()); !errors.Is(err, f.meets) {
				t.Errorf("a client meets: %v; want: %v", err, f.meets)
			}
			check.Eventually(t, "a replica that does not replicate", func() bool { return !slices.Contains(replicating(t, leader), replica.Name()) })
			order(t, leader) // at the latest when Patroni has named another synchronous replica
			if err := c.WaitHealthy(ctx); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), replica.Name()) {
				t.Errorf("WaitHealthy: %v", err)
			}
			ok(t, f.undo(replica))
			ok(t, c.WaitHealthy(ctx))
			if err := meet(replica.Host()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}

	t.Run("a primary dies alone", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		leader, err := c.Leader(ctx)
		ok(t, err)
		replicas := slices.DeleteFunc(slices.Clone(c.Nodes()), func(n *patronitest.Node) bool { return n == leader })
		for _, n := range replicas {
			ok(t, n.Cut())
		}
		check.Eventually(t, "a primary without a replica", func() bool { // Patroni goes on without a replica
			status, err := c.Status(ctx)
			return err == nil && status.Sync == "" && status.Leader == leader.Name()
		})
		ok(t, leader.Kill())
		for _, n := range replicas {
			ok(t, n.Heal())
		}
		if _, err := c.WaitLeader(ctx, leader); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "in step") {
			t.Errorf("WaitLeader: %v", err)
		}
		ok(t, leader.Restart())
		ok(t, c.WaitHealthy(ctx))
	})

	abandon := patronitest.Fault{
		Name: "kill -9 of Patroni",
		Do:   func(_ context.Context, n *patronitest.Node) error { return n.KillPatroni() },
	}
	for _, f := range append(patronitest.Faults(), abandon) {
		t.Run(f.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			leader, err := c.Leader(ctx)
			ok(t, err)
			order(t, leader)
			outage, err := c.Strike(ctx, f)
			ok(t, err)
			t.Log(outage)
			order(t, outage.Next)
			for _, n := range c.Nodes() {
				check.Eventually(t, "all orders on each node", func() bool {
					return query(t, n.DSN(), "select count(*), max(id) from orders") == fmt.Sprintf("%d|%[1]d", orders)
				})
			}
		})
	}
}

var (
	errSilence = errors.New("no answer")
	errRefused = errors.New("refused, or reset at once")
)

// meet asks for encryption, which every server answers to, with yes or no.
func meet(host string) error {
	conn, err := net.DialTimeout("tcp", host, time.Second)
	if err != nil {
		return errors.Join(errRefused, err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return errors.Join(errRefused, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSilence
	}
	return errors.Join(errRefused, err)
}

// replicating lists the nodes that a primary sends to.
func replicating(t *testing.T, primary *patronitest.Node) []string {
	t.Helper()
	superuser := strings.ReplaceAll(primary.DSN(), "app:secret@", "postgres@")
	return strings.Fields(query(t, superuser, "select application_name from pg_stat_replication"))
}

func query(t *testing.T, dsn, statement string) string {
	t.Helper()
	out, err := pgtest.Psql(dsn, statement)
	ok(t, err)
	return out
}
