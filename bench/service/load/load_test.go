package load_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope/bench/service/load"
	"github.com/dbscope/dbscope/internal/check"
)

var ok = check.OK

func clients(t *testing.T, n int, work string, handler http.HandlerFunc) *load.Clients {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := load.Dial(server.Listener.Addr().String(), work, n)
	ok(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	return c
}

func TestEachRequestIsCountedOnceAndIDsBelongToOneClient(t *testing.T) {
	var (
		mu   sync.Mutex
		seen = map[string]string{} // the connection that asked for an id
		n    atomic.Int64
	)
	c := clients(t, 16, "write", func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if by := seen[r.URL.Path]; by != "" && by != r.RemoteAddr {
			t.Errorf("%s is asked for by two clients", r.URL.Path)
		}
		seen[r.URL.Path] = r.RemoteAddr
		_, _ = w.Write([]byte("answer"))
	})
	result, err := c.Closed(20 * time.Millisecond)
	ok(t, err)
	if got := len(result.Times); int64(got) != n.Load() || got < 16 {
		t.Errorf("%d times, %d requests", got, n.Load())
	}
	if result.Took < 20*time.Millisecond || result.Quantile(0) > result.Quantile(0.5) || result.Quantile(0.5) > result.Quantile(1) {
		t.Errorf("took %v, %v", result.Took, result.Times)
	}
}

func TestInAnOpenLoopTheTimeCountsFromWhenARequestWasToBeSent(t *testing.T) {
	const takes = 5 * time.Millisecond
	c := clients(t, 1, "read", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(takes)
		_, _ = w.Write([]byte("answer"))
	})
	result, err := c.Open(1000, 20*time.Millisecond)
	ok(t, err)
	if len(result.Times) != 20 {
		t.Fatalf("%d requests at 1000 a second in 20 ms", len(result.Times))
	}
	// The last was to be sent after 19 ms, and had to wait for all before it.
	if last := result.Quantile(1); last < 20*takes-19*time.Millisecond {
		t.Errorf("the last took %v", last)
	}
}

func TestAResponseThatIsNotOKEndsTheRun(t *testing.T) {
	c := clients(t, 2, "mixed", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such row", http.StatusInternalServerError)
	})
	if _, err := c.Closed(time.Hour); err == nil || !strings.Contains(err.Error(), "500") || !strings.Contains(err.Error(), "no such row") {
		t.Errorf("got %v", err)
	}
}
