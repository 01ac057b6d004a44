package cluster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/internal/mariatest"
)

// R12.
func TestOnMariaDBReadsGoToReplicasAndWritesFollowWhoeverIsNotReadOnly(t *testing.T) {
	primary := mariatest.Start(t)
	replica := primary.Replica(t)
	on := onMariaDB(t, primary, replica)
	on.prepare("CREATE TABLE moved (n int)")
	nodes := cluster.New(cluster.List(on.hosts...), cluster.MariaDB(), cluster.Wait(500*time.Millisecond))
	db := on.open(dbscope.Router(nodes))
	defer func() { ok(t, db.Close()) }()
	fresh(t, nodes, 1, db)
	host := func(opts ...dbscope.Option) (host string, err error) {
		err = dbscope.Run(t.Context(), func(ctx context.Context) error {
			port, err := db.text(ctx, "SELECT @@port")
			host = "127.0.0.1:" + port
			return err
		}, opts...)
		return host, err
	}
	for range 4 {
		if h, err := host(dbscope.ReadOnly()); err != nil || h != on.hosts[1] {
			t.Fatalf("a read-only unit ran on %s, %v", h, err)
		}
		if h, err := host(); err != nil || h != on.hosts[0] {
			t.Fatalf("a unit that may write ran on %s, %v", h, err)
		}
	}
	err := dbscope.Run(t.Context(), func(ctx context.Context) error { return db.exec(ctx, "INSERT INTO moved VALUES (1)") }, dbscope.ReadOnly())
	if err == nil || !strings.Contains(err.Error(), "option ReadOnly") {
		t.Errorf("the error of a write in a read-only unit is %v", err)
	}
	primary.Kill()
	eventually(t, "nobody writes", func() bool {
		_, err := host()
		return errors.Is(err, cluster.ErrNoPrimary)
	})
	if h, err := host(dbscope.ReadOnly()); err != nil || h != on.hosts[1] {
		t.Errorf("without a primary a read-only unit ran on %s, %v", h, err)
	}
	replica.Query(t, "", "STOP SLAVE; SET GLOBAL read_only = OFF")
	eventually(t, "a write on the other host", func() bool {
		return write(t.Context(), db, "INSERT INTO moved VALUES (2)") == nil
	})
	if db.Host() != on.hosts[1] {
		t.Errorf("the host is %s", db.Host())
	}
	primary.Restart(t) // and accepts writes again
	eventually(t, "two that write are noticed", func() bool {
		_, err := host()
		return errors.Is(err, cluster.ErrSplitBrain)
	})
}
