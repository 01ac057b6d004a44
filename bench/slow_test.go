package bench

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// BenchmarkHonestRequestsBesideSlowClients times the requests of four clients, each
// of which stores a row, on a pool of four: by themselves, and while fifty clients
// send a body a byte at a time and fifty do not read a long answer. The two take
// turns. The service has BufferBody; without it no honest request is answered.
func BenchmarkHonestRequestsBesideSlowClients(b *testing.B) {
	const (
		rounds   = 10
		clients  = 4
		requests = 100 // of each client in a round
		slow     = 50  // of either kind
	)
	dsn := pgtest.Shared(b).CreateDatabase(b)
	pgtest.Shared(b).Query(b, dsn, "CREATE UNLOGGED TABLE orders (item TEXT)")
	db := pgxscope.Open(dsn + "&pool_max_conns=4")
	server := httptest.NewServer(httpscope.Middleware(httpscope.BufferBody(1 << 20))(slowShop{db}))
	alone, beside := []float64{}, []float64{}
	for b.Loop() {
		alone, beside = alone[:0], beside[:0]
		for range rounds {
			alone = append(alone, honest(b, server.URL, clients, requests)...)
			stop := attack(b, server.Listener.Addr().String(), slow)
			beside = append(beside, honest(b, server.URL, clients, requests)...)
			stop()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(quantile(alone, 0.5), "alone-median-µs")
	b.ReportMetric(quantile(beside, 0.5), "beside-median-µs")
	b.ReportMetric(quantile(alone, 0.99), "alone-p99-µs")
	b.ReportMetric(quantile(beside, 0.99), "beside-p99-µs")
	server.CloseClientConnections()
	server.Close()
	must(b, db.Close())
}

// slowShop asks the database first, as a handler does that knows its user.
type slowShop struct{ db *pgxscope.DB }

func (s slowShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, err := s.db.Exec(r.Context(), "SELECT 1")
	var body []byte
	if err == nil {
		body, err = io.ReadAll(r.Body)
	}
	if err == nil && r.Method == http.MethodPost {
		_, err = s.db.Exec(r.Context(), "INSERT INTO orders VALUES ($1)", string(body))
	}
	for part := make([]byte, 64<<10); err == nil && r.Method == http.MethodGet; {
		_, err = w.Write(part) // more than is held, so that the unit is over by then
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// honest returns how long each request took, in microseconds.
func honest(b *testing.B, url string, clients, requests int) []float64 {
	var mu sync.Mutex
	var all []float64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
			defer client.CloseIdleConnections()
			for range requests {
				began := time.Now()
				resp, err := client.Post(url, "text/plain", strings.NewReader("tea")) //nolint:noctx // the client has a timeout
				if err != nil {
					b.Error(err)
					return
				}
				_ = resp.Body.Close()
				took := float64(time.Since(began).Microseconds())
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// attack begins the slow requests, and returns what ends them.
func attack(b *testing.B, address string, each int) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	begin := func(request string) net.Conn {
		conn, err := net.Dial("tcp", address)
		must(b, err)
		_, err = io.WriteString(conn, request)
		must(b, err)
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn
	}
	for range each {
		_ = begin("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
		conn := begin("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n")
		wg.Go(func() {
			for _, err := io.WriteString(conn, "x"); err == nil; _, err = io.WriteString(conn, "x") {
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // for the answers to fill what buffers they can
	return func() {
		cancel()
		wg.Wait()
	}
}

func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[int(q*float64(len(v)-1))]
}
