// Package cluster_test puts load on a real cluster while its primary is switched
// over, killed, frozen and cut off, and checks what clients were told.
package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope/internal/patronitest"
	"github.com/dbscope/dbscope/tests/cluster/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// DBSCOPE_LONG=1 makes all faults happen, for two minutes at least.
const longVariable = "DBSCOPE_LONG"

const (
	keys           = 50
	poolSize       = 20
	requestTimeout = 2 * time.Second
	checkTimeout   = time.Minute // of a key
)

// TestWritesThatWereAcknowledgedAreKept is of the cluster, and of the way to
// test with it: the client is plain pgx.
func TestWritesThatWereAcknowledgedAreKept(t *testing.T) {
	rate, duration, faults := 50, 15*time.Second, patronitest.Faults()[2:4]
	if os.Getenv(longVariable) != "" {
		rate, duration, faults = 200, 2*time.Minute, patronitest.Faults()
	}
	c := patronitest.Start(t)
	store := open(t, c)
	h := history.New()
	var values atomic.Int64
	request := func(ctx context.Context) {
		key := fmt.Sprint("key", rand.IntN(keys))
		if rand.IntN(2) == 0 {
			store.read(ctx, h, key)
		} else {
			store.write(ctx, h, key, fmt.Sprint(values.Add(1)))
		}
	}

	disturb(t, c, duration, faults, func(ctx context.Context) { steadily(ctx, rate, request) })
	for key := range keys {
		for tries := 0; !store.read(t.Context(), h, fmt.Sprint("key", key)); tries++ {
			if tries == 2*poolSize { // connections of before may be left, each good for an error
				t.Fatalf("key%d cannot be read afterwards", key)
			}
		}
	}

	all, unknown, failed := h.Count()
	t.Logf("%d requests; of %d nobody knows, and %d failed", all, unknown, failed)
	if all-unknown-failed < all/4 {
		t.Error("most requests were in vain")
	}
	if err := h.Check(checkTimeout); err != nil {
		t.Error(err)
	}
}

// disturb lets faults happen while load runs, at least once each and at least
// for the duration. It returns when the load has ended, on a healthy cluster.
func disturb(t *testing.T, c *patronitest.Cluster, d time.Duration, faults []patronitest.Fault, load func(context.Context)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var loading sync.WaitGroup
	loading.Go(func() { load(ctx) })
	enough, end := context.WithCancel(ctx)
	defer end()
	begin, struck := time.Now(), 0
	err := c.Disturb(enough, time.Second, faults, func(o patronitest.Outage) {
		t.Log(o)
		if struck++; struck >= len(faults) && time.Since(begin) >= d {
			end()
		}
	})
	stop()
	loading.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// steadily begins so many requests a second, however long they take, until ctx
// is done, and returns when all have ended. A request is not told of that end.
func steadily(ctx context.Context, rate int, request func(context.Context)) {
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	begin, begun := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C: // those that a busy machine misses are made up for
		}
		for ; begun < int(time.Since(begin).Seconds()*float64(rate)); begun++ {
			under.Go(func() { request(context.WithoutCancel(ctx)) })
		}
	}
}

// store is registers in the cluster's database.
type store struct{ pool *pgxpool.Pool }

func open(t *testing.T, c *patronitest.Cluster) *store {
	t.Helper()
	dsn := strings.ReplaceAll(c.DSN(), "{host}", strings.Join(c.Hosts(), ",")) +
		"&target_session_attrs=read-write&connect_timeout=1&pool_max_conns=" + fmt.Sprint(poolSize)
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		"create table register (key text primary key, value text not null)",
		fmt.Sprintf("insert into register select 'key' || i, '' from generate_series(0, %d) i", keys-1), // only a row that is there can be locked
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return &store{pool}
}

func (s *store) write(ctx context.Context, h *history.History, key, value string) {
	op := h.Write(key, value)
	end(op, s.do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, "update register set value = $2 where key = $1", key, value)
		if err == nil {
			op.Done()
		}
		return err
	}))
}

// read locks the row. Its commit then waits for the synchronous replica, which
// one that is no longer the primary does not have: it could show an old value.
func (s *store) read(ctx context.Context, h *history.History, key string) bool {
	op := h.Read(key)
	err := s.do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		var value string
		err := conn.QueryRow(ctx, "select value from register where key = $1 for update", key).Scan(&value)
		if err == nil {
			op.Saw(value)
		}
		return err
	})
	end(op, err)
	return err == nil
}

var errNotSent = errors.New("not sent")

func (s *store) do(ctx context.Context, work func(context.Context, *pgxpool.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return errors.Join(errNotSent, err)
	}
	defer conn.Release()
	return work(ctx, conn)
}

// end says how an operation went that did not go well.
func end(op *history.Op, err error) {
	const readOnly = "25006"
	var refused *pgconn.PgError
	switch {
	case err == nil:
	case errors.Is(err, errNotSent), errors.As(err, &refused) && refused.Code == readOnly:
		op.Failed()
	default:
		op.Unknown()
	}
}
