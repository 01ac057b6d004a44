package cluster_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/patronitest"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/tests/cluster/history"
)

const (
	requestsPerSecond = 200
	keysAtATime       = 40              // and
	keysLast          = 2 * time.Second // then new ones: short histories are quickly checked
	unknownOutcome    = "unknown"
)

// R12. A service on a cluster of three nodes is asked 200 times a second
// while its primary is switched over, killed, frozen and cut off. What was
// acknowledged is stored, once; what failed is not; and a register for each key
// behaves as if there were one copy of it.
func TestNothingIsLostOrDoneTwiceWhilePrimariesFail(t *testing.T) {
	rounds, faults := 1, patronitest.Faults()[:4]
	if os.Getenv("DBSCOPE_LONG") != "" {
		rounds, faults = 3, patronitest.Faults()
	}
	patroni := patronitest.Start(t)
	nodes := cluster.New(cluster.List(patroni.Hosts()...), cluster.SignedBy(key))
	db := pgxscope.Open(patroni.DSN()+"&connect_timeout=2&pool_max_conns=30", dbscope.Router(nodes), dbscope.SettleByLedger())
	defer func() { ok(t, db.Close()) }()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := db.Exec(ctx, dbscope.LedgerTable+`;
			CREATE TABLE registers (key text PRIMARY KEY, value bigint NOT NULL);
			CREATE TABLE log (id bigint)`)
		return err
	}))
	service := httptest.NewServer(registers(db))
	defer service.Close()

	l := &load{t: t, url: service.URL, start: time.Now(), hist: history.New()}
	loading, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { l.run(loading) })
	var outages []patronitest.Outage
	for range rounds {
		for _, f := range faults {
			time.Sleep(2 * time.Second)
			outages = append(outages, strike(t, patroni, f))
		}
	}
	time.Sleep(2 * time.Second)
	stop()
	done.Wait()
	l.check(db)
	l.report(outages)
}

// strike lets a fault happen. Patroni may refuse to switch over while it is busy
// with itself, and on a busy machine no replica may be in step when the primary
// is struck: then it is asked again.
func strike(t *testing.T, patroni *patronitest.Cluster, f patronitest.Fault) patronitest.Outage {
	for attempt := 1; ; attempt++ {
		o, err := patroni.Strike(t.Context(), f)
		if err == nil {
			t.Log(o)
			return o
		}
		if attempt == 3 {
			t.Fatal(err)
		}
		t.Log(err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		ok(t, patroni.WaitHealthy(ctx))
		cancel()
	}
}

// registers is the service: PUT stores a value under a key, POST reads it as a
// unit that could write, GET reads it wherever. An answer carries the timeline
// of the server that it came from.
func registers(db *pgxscope.DB) http.Handler {
	const timeline = "CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"
	mux := http.NewServeMux()
	reading := func(w http.ResponseWriter, r *http.Request) {
		var value string
		var tl int64
		err := db.QueryRow(r.Context(), "SELECT coalesce((SELECT value::text FROM registers WHERE key = $1), ''), "+timeline,
			r.PathValue("key")).Scan(&value, &tl)
		answer(w, err, value, tl)
	}
	mux.HandleFunc("POST /{key}", reading)
	mux.HandleFunc("GET /{key}", reading)
	mux.HandleFunc("PUT /{key}/{value}", func(w http.ResponseWriter, r *http.Request) {
		value, _ := strconv.ParseInt(r.PathValue("value"), 10, 64)
		_, err := db.Exec(r.Context(), "INSERT INTO registers VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
			r.PathValue("key"), value)
		var tl int64
		if err == nil {
			err = db.QueryRow(r.Context(), "INSERT INTO log VALUES ($1) RETURNING "+timeline, value).Scan(&tl)
		}
		answer(w, err, "", tl)
	})
	unit := httpscope.Middleware(
		httpscope.ReadOnlySafeMethods(),
		httpscope.FailurePage(func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusInternalServerError)
			if errors.Is(err, dbscope.ErrCommitUnknown) {
				_, _ = io.WriteString(w, unknownOutcome)
			}
		}),
	)
	return limit(5*time.Second, unit(mux))
}

// limit gives each request so long.
func limit(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func answer(w http.ResponseWriter, err error, value string, timeline int64) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintf(w, "%d %s", timeline, value)
}

// load is what clients do and see.
type load struct {
	t     *testing.T
	url   string
	start time.Time
	ids   atomic.Int64
	hist  *history.History

	mu      sync.Mutex
	written []written // acknowledged
	failed  []int64
	unknown []int64
	reads   []time.Time // answered by any node
	refused map[string]int
}

type written struct {
	id, timeline int64
	begun, ended time.Time
}

func (l *load) run(ctx context.Context) {
	var requests sync.WaitGroup
	defer requests.Wait()
	tick := time.NewTicker(time.Second / requestsPerSecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			requests.Go(l.request)
		}
	}
}

func (l *load) request() {
	key := fmt.Sprintf("%d-%d", time.Since(l.start)/keysLast, rand.IntN(keysAtATime))
	switch rand.IntN(3) {
	case 0:
		l.put(key)
	case 1:
		op := l.hist.Read(key)
		if value, _, _, err := l.do(http.MethodPost, "/"+key); err == nil {
			op.Saw(value)
		} // else it tells nothing
	default:
		if _, _, _, err := l.do(http.MethodGet, "/"+key); err == nil {
			l.mu.Lock()
			l.reads = append(l.reads, time.Now())
			l.mu.Unlock()
		} else {
			l.refuse("read: " + err.Error())
		}
	}
}

func (l *load) refuse(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = map[string]int{}
	}
	why, _, _ = strings.Cut(why, ";")
	l.refused[why]++
}

func (l *load) put(key string) {
	id := l.ids.Add(1)
	begun := time.Now()
	op := l.hist.Write(key, strconv.FormatInt(id, 10))
	_, timeline, maybe, err := l.do(http.MethodPut, fmt.Sprintf("/%s/%d", key, id))
	l.mu.Lock()
	switch {
	case err == nil:
		op.Done()
		l.written = append(l.written, written{id, timeline, begun, time.Now()})
	case maybe:
		op.Unknown()
		l.unknown = append(l.unknown, id)
	default:
		op.Failed()
		l.failed = append(l.failed, id)
	}
	l.mu.Unlock()
	if err != nil {
		l.refuse("write: " + err.Error())
	}
}

var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}

// do sends a request. maybe says that it failed and may have had an effect.
func (l *load) do(method, path string) (value string, timeline int64, maybe bool, err error) {
	req, err := http.NewRequest(method, l.url+path, nil)
	if err != nil {
		return "", 0, false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, true, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", 0, true, err
	case resp.StatusCode != http.StatusOK:
		return "", 0, string(body) == unknownOutcome, fmt.Errorf("%s %s", resp.Status, body)
	}
	number, value, _ := strings.Cut(string(body), " ")
	timeline, err = strconv.ParseInt(number, 10, 64)
	return value, timeline, false, err
}

// check compares what clients were told with what is stored.
func (l *load) check(db *pgxscope.DB) {
	stored := map[int64]int{}
	ok(l.t, dbscope.Run(l.t.Context(), func(ctx context.Context) error {
		rows, err := db.Query(ctx, "SELECT id FROM log")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			stored[id]++
		}
		return rows.Err()
	}))
	for _, w := range l.written {
		if stored[w.id] == 0 {
			l.t.Errorf("the acknowledged write %d is lost", w.id)
		}
	}
	for _, id := range l.failed {
		if stored[id] != 0 {
			l.t.Errorf("the write %d, which failed, is stored", id)
		}
	}
	for id, n := range stored {
		if n > 1 {
			l.t.Errorf("the write %d was done %d times", id, n)
		}
	}
	if err := l.hist.Check(20 * time.Second); err != nil {
		l.t.Error(err)
	}
}

// report prints what happened, and how long writes were away after there was a
// primary.
func (l *load) report(outages []patronitest.Outage) {
	slices.SortFunc(l.written, func(a, b written) int { return a.ended.Compare(b.ended) })
	slices.SortFunc(l.reads, time.Time.Compare)
	var after []time.Duration
	for _, o := range outages {
		before := int64(0)
		for _, w := range l.written {
			if w.ended.Before(o.At) {
				before = max(before, w.timeline)
			}
		}
		again := slices.IndexFunc(l.written, func(w written) bool {
			return w.begun.After(o.At) && (w.timeline > before || o.Next == o.Leader)
		})
		if again < 0 {
			l.t.Errorf("after %v no write was acknowledged any more", o)
			continue
		}
		after = append(after, max(0, l.written[again].ended.Sub(o.At.Add(o.Led))))
		if o.Led > time.Second && !slices.ContainsFunc(l.reads, func(at time.Time) bool { return at.After(o.At) && at.Before(o.At.Add(o.Led)) }) {
			l.t.Errorf("during %v no read was answered", o)
		}
	}
	var silence time.Duration
	for i := range l.reads[1:] {
		silence = max(silence, l.reads[i+1].Sub(l.reads[i]))
	}
	slices.Sort(after)
	l.t.Logf("%d writes acknowledged, %d failed, %d of unknown outcome; %d reads, at most %v between two",
		len(l.written), len(l.failed), len(l.unknown), len(l.reads), silence.Round(time.Millisecond))
	l.t.Logf("writes flowed again after Patroni had a primary: median %v, at most %v", after[len(after)/2].Round(time.Millisecond),
		after[len(after)-1].Round(time.Millisecond))
	type refusal struct {
		why string
		n   int
	}
	var all []refusal
	for why, n := range l.refused {
		all = append(all, refusal{why, n})
	}
	slices.SortFunc(all, func(a, b refusal) int { return cmp.Compare(b.n, a.n) })
	for _, r := range all[:min(8, len(all))] {
		l.t.Logf("%5d × %s", r.n, r.why)
	}
}
