package load_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// switched is a database whose host is switched.
type switched interface {
	SwitchHost(ctx context.Context, host string) error
	Commit(ctx context.Context) error
	Close() error
	// store stores a row, and tells the host that it is on.
	store(ctx context.Context, id int) (host string, err error)
}

const (
	storeRow = "INSERT INTO t (id) VALUES ($1) RETURNING '127.0.0.1:' || current_setting('port')"
	poolSize = 20 // for each host
)

type overSQL struct{ *sqlscope.DB }

func (d overSQL) store(ctx context.Context, id int) (host string, err error) {
	err = d.QueryRowContext(ctx, storeRow, id).Scan(&host)
	return host, err
}

type overPgx struct{ *pgxscope.DB }

func (d overPgx) store(ctx context.Context, id int) (host string, err error) {
	err = d.QueryRow(ctx, storeRow, id).Scan(&host)
	return host, err
}

func dsnOf(host string) string { return "postgres://postgres@" + host + "/load?sslmode=disable" }

func openSQL(first string) switched {
	return overSQL{sqlscope.New(func(_ context.Context, host string) (*sql.DB, error) {
		pool, err := sql.Open("pgx", dsnOf(host))
		if err == nil {
			pool.SetMaxOpenConns(poolSize)
			pool.SetMaxIdleConns(poolSize)
		}
		return pool, err
	}, dbscope.Host(first))}
}

func openPgx(first string) switched {
	return overPgx{pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsnOf(host))
		if err != nil {
			return nil, err
		}
		config.MaxConns = poolSize
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Host(first))}
}

// R11. Two servers have the same table, and 500 clients store rows without a
// pause. Every request is answered with success, and its rows are where its
// answer says, once. Those of its second transaction may be elsewhere.
func TestNoRequestFailsWhileHostsAreSwitched(t *testing.T) {
	const clients = 500
	switches := 10
	if os.Getenv("DBSCOPE_LONG") != "" {
		switches = 100
	}
	for name, open := range map[string]func(string) switched{"sqlscope": openSQL, "pgxscope": openPgx} {
		t.Run(name, func(t *testing.T) {
			servers := map[string]*pgtest.Server{}
			var hosts []string
			for range 2 {
				s := pgtest.Start(t)
				s.Query(t, s.DSN("postgres"), "CREATE DATABASE load")
				s.Query(t, s.DSN("load"), "CREATE TABLE t (id int)")
				hosts = append(hosts, fmt.Sprintf("127.0.0.1:%d", s.Port()))
				servers[hosts[len(hosts)-1]] = s
			}
			db := open(hosts[0])
			url, client := start(t, clients, func(w http.ResponseWriter, r *http.Request) { storeTwice(w, r, db) })

			var (
				mu      sync.Mutex
				answers = map[string]map[int]bool{hosts[0]: {}, hosts[1]: {}} // the rows on each host
				next    atomic.Int64
				done    = make(chan struct{})
				wg      sync.WaitGroup
			)
			answered := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(answers[hosts[0]]) + len(answers[hosts[1]])
			}
			for range clients {
				wg.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						id := 2 * int(next.Add(1))
						body, err := get(client, fmt.Sprintf("%s/?id=%d", url, id))
						if err != nil {
							t.Errorf("request %d: %v", id, err)
							return
						}
						mu.Lock()
						for i, host := range strings.Fields(body) {
							answers[host][id+i] = true
						}
						mu.Unlock()
					}
				})
			}
			for n := range switches {
				before := answered()
				drivertest.Eventually(t, "rows are stored", func() bool { return t.Failed() || answered() > before+clients })
				ok(t, db.SwitchHost(t.Context(), hosts[(n+1)%2]))
			}
			close(done)
			wg.Wait()
			ok(t, db.Close())
			for host, s := range servers {
				stored := map[int]bool{}
				for id := range strings.FieldsSeq(s.Query(t, s.DSN("load"), "SELECT id FROM t")) {
					n, err := strconv.Atoi(id)
					ok(t, err)
					if stored[n] || !answers[host][n] {
						t.Errorf("row %d is on %s: twice %v, said to be there %v", n, host, stored[n], answers[host][n])
					}
					stored[n] = true
				}
				if len(stored) != len(answers[host]) || len(stored) == 0 {
					t.Errorf("%d rows are on %s, should be %d", len(stored), host, len(answers[host]))
				}
				drivertest.Eventually(t, "the server has seen the last connection go", func() bool {
					return s.Query(t, s.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE datname = 'load'") == "0"
				})
			}
			t.Logf("%d switches, %d requests, none failed; %d rows on one host, %d on the other",
				switches, next.Load(), len(answers[hosts[0]]), len(answers[hosts[1]]))
		})
	}
}

// storeTwice stores two rows in one transaction or, of every third request, in
// two, and answers with the host of each.
func storeTwice(w http.ResponseWriter, r *http.Request, db switched) {
	id, err := strconv.Atoi(r.FormValue("id"))
	if err != nil {
		panic(err)
	}
	first, err := db.store(r.Context(), id)
	if err == nil && id%3 == 0 {
		err = db.Commit(r.Context())
	}
	var second string
	if err == nil {
		second, err = db.store(r.Context(), id+1)
	}
	if err == nil && id%3 != 0 && first != second {
		err = errors.New("one transaction is on two hosts")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, first, second)
}

func get(client *http.Client, url string) (string, error) {
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), errors.Join(err, res.Body.Close())
}
