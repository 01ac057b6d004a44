package http_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// Two processes, as it were, so that only what the client brings can tell the
// one that reads.
func TestAClientWithCookiesReadsWhatItWroteWhileTheReplicaIsBehind(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	hosts := cluster.List(fmt.Sprintf("127.0.0.1:%d", primary.Port()), fmt.Sprintf("127.0.0.1:%d", standby.Port()))
	key := bytes.Repeat([]byte("k"), 32)
	var handlers []http.Handler
	for range 2 {
		nodes := cluster.New(hosts, cluster.SignedBy(key), cluster.PollEvery(50*time.Millisecond))
		db := pgxscope.Open("postgres://postgres@{host}/postgres?sslmode=disable", dbscope.Router(nodes))
		t.Cleanup(func() { must(t, db.Close()) })
		handlers = append(handlers, counter(t, db))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			handlers[0].ServeHTTP(w, r)
		} else {
			handlers[1].ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	must(t, err)
	with := &http.Client{Transport: server.Client().Transport, Jar: jar}
	without := server.Client()

	primary.Query(t, primary.DSN("postgres"), "CREATE TABLE counted (n int)")
	ask(t, with, http.MethodPost, server.URL) // a first one, which the standby replays
	for _, client := range []*http.Client{with, without} {
		eventually(t, "the standby serves", func() bool {
			return ask(t, client, http.MethodGet, server.URL) == "1 on a replica: true"
		})
	}
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_pause()")
	ask(t, with, http.MethodPost, server.URL)
	for range 3 {
		if got := ask(t, with, http.MethodGet, server.URL); got != "2 on a replica: false" {
			t.Errorf("the client that wrote reads %q", got)
		}
		if got := ask(t, without, http.MethodGet, server.URL); got != "1 on a replica: true" {
			t.Errorf("a client without cookies reads %q", got)
		}
	}
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_resume()")
	eventually(t, "the standby serves the client again", func() bool {
		return ask(t, with, http.MethodGet, server.URL) == "2 on a replica: true"
	})
}

// counter stores a row for each POST and tells how many there are.
func counter(t *testing.T, db *pgxscope.DB) http.Handler {
	count := func(ctx context.Context, method string) (answer string, err error) {
		if method == http.MethodPost {
			_, err := db.Exec(ctx, "INSERT INTO counted VALUES (1)")
			return "stored", err
		}
		err = db.QueryRow(ctx, "SELECT count(*) || ' on a replica: ' || pg_is_in_recovery() FROM counted").Scan(&answer)
		return answer, err
	}
	onError := httpscope.OnError(func(_ *http.Request, err error) { t.Error(err) })
	cookie := httpscope.TokenCookie(http.Cookie{Name: "writes"})
	return httpscope.Middleware(onError, cookie, httpscope.ReadOnlySafeMethods())(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer, err := count(r.Context(), r.Method)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, answer)
		}))
}

func ask(t *testing.T, client *http.Client, method, url string) (answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	must(t, err)
	resp, err := client.Do(r)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	return string(body)
}
