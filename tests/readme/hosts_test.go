package readme

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// Site and worker are two processes, as it were, and the standby stops to
// replay.
func TestAJobFindsWhatItsTokenTellsOf(t *testing.T) {
	primary := pgtest.Start(t)
	primary.Query(t, primary.DSN("postgres"), "CREATE TABLE orders (id bigserial, item text)")
	standby := primary.Standby(t)
	at := func(s *pgtest.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }
	key := bytes.Repeat([]byte("k"), 32)
	open := func() (*pgxscope.DB, *cluster.Cluster) {
		nodes := cluster.New(cluster.List(at(primary), at(standby)), cluster.SignedBy(key))
		db := pgxscope.Open("postgres://postgres@{host}/postgres?sslmode=disable", dbscope.Router(nodes))
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db, nodes
	}
	site, _ := open()
	worker, nodes := open()
	fresh := func() bool {
		_, _ = pack(t.Context(), worker, Packing{}) // the first session starts the watch
		for _, n := range nodes.Nodes() {
			if n.Fresh {
				return true
			}
		}
		return false
	}
	drivertest.Eventually(t, "the standby serves reads", fresh)
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_pause()")
	var job Packing
	if err := takeOrder(t.Context(), site, "tea", func(p Packing) error { job = p; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := pack(t.Context(), worker, Packing{Order: job.Order}); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("without the token the error is %v", err)
	}
	if item, err := pack(t.Context(), worker, job); err != nil || item != "tea" {
		t.Errorf("with the token the order is %q, %v", item, err)
	}
}
