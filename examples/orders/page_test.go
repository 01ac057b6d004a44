package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// ask sends a request with headers, of the form name, value, and returns the answer
// with its body.
func (s *service) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(t, resp.Body)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func startOnSQLite(t *testing.T) *service {
	t.Helper()
	return start(t, open(t, "", "", filepath.Join(t.TempDir(), "orders.db")))
}

// What the page consists of is here, and may load nothing from elsewhere.
func TestThePageIsServedWithItsPartsAndAStrictPolicy(t *testing.T) {
	s := startOnSQLite(t)
	resp, text := s.ask(t, "GET", "/", "")
	checkEqual(t, "status", resp.StatusCode, http.StatusOK)
	checkEqual(t, "type", resp.Header.Get("Content-Type"), "text/html; charset=utf-8")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} {
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") {
			t.Errorf("the policy is %q, without %q", policy, part)
		}
	}
	links := regexp.MustCompile(`(?:href|src)="([^"#]+)"`).FindAllStringSubmatch(text, -1)
	if len(links) < 4 {
		t.Errorf("the page consists of %v only", links)
	}
	for _, link := range links {
		if !strings.HasPrefix(link[1], "/") {
			t.Errorf("%s leads elsewhere", link[1])
			continue
		}
		resp, _ := s.ask(t, "GET", link[1], "")
		checkEqual(t, "status of "+link[1], resp.StatusCode, http.StatusOK)
		if strings.HasSuffix(link[1], ".js") {
			checkEqual(t, "type of "+link[1], resp.Header.Get("Content-Type"), "text/javascript; charset=utf-8")
		}
	}
	resp, _ = s.ask(t, "GET", "/page/", "")
	checkEqual(t, "status of what is no part of it", resp.StatusCode, http.StatusNotFound)
}

func TestAnOrderWithAKeyIsStoredOnceHoweverOftenItComes(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const wish = `{"customer": "ada", "sku": "tea", "quantity": 2}`
		side(10, func(int) {
			resp, _ := s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"one"`)
			checkEqual(t, "status", resp.StatusCode, http.StatusCreated)
		})
		first, body := s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"one"`)
		again, same := s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"one"`)
		checkEqual(t, "answer", same, body)
		checkEqual(t, "Location", again.Header.Get("Location"), first.Header.Get("Location"))
		checkEqual(t, "Idempotency-Replayed", again.Header.Get("Idempotency-Replayed"), "true")
		s.checkStored(t, 1, 1, fullStock-2)

		var p problem
		resp, body := s.ask(t, "POST", "/orders", `{"customer": "bob", "sku": "tea", "quantity": 2}`, "Idempotency-Key", `"one"`)
		checkEqual(t, "status of another order with the key", resp.StatusCode, http.StatusUnprocessableEntity)
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.Error == "" {
			t.Errorf("the answer does not say why: %s", body)
		}
		s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"two"`)
		s.checkStored(t, 2, 2, fullStock-4)
	})
}

// The answer to a refused order is not kept: the stock may be filled meanwhile.
func TestAnOrderThatWasRefusedMayComeAgainWithItsKey(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const wish = `{"customer": "ada", "sku": "last-cup", "quantity": 2}`
		resp, _ := s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"one"`)
		checkEqual(t, "status", resp.StatusCode, http.StatusConflict)
		s.exec(t, `update stock set quantity = 2 where sku = 'last-cup'`)
		resp, _ = s.ask(t, "POST", "/orders", wish, "Idempotency-Key", `"one"`)
		checkEqual(t, "status", resp.StatusCode, http.StatusCreated)
	})
}

func TestAnImportWithAKeyIsStoredOnce(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		for range 2 {
			resp, body := s.ask(t, "POST", "/imports", csvOf(10).String(), "Idempotency-Key", `"one"`)
			checkEqual(t, "status", resp.StatusCode, http.StatusOK)
			checkEqual(t, "answer", body, "{\"imported\":10}\n")
		}
		s.checkStored(t, 10, 10, fullStock-10)
	})
}

func TestThePageOfAnotherSiteOrdersNothing(t *testing.T) {
	s := startOnSQLite(t)
	resp, _ := s.ask(t, "POST", "/orders", `{"customer": "ada", "sku": "tea", "quantity": 2}`, "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site")
	checkEqual(t, "status", resp.StatusCode, http.StatusForbidden)
	s.checkStored(t, 0, 0, fullStock)
}

func TestTroubleIsInTheLog(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		before := slog.Default()
		t.Cleanup(func() { slog.SetDefault(before) })
		for name, c := range map[string]struct {
			status int
			line   string
		}{
			"slow":     {http.StatusOK, `msg="unit of work was slow" unit=`},
			"idle":     {http.StatusOK, "suspicion=idle"},
			"failed":   {http.StatusInternalServerError, `msg="unit of work failed" unit=`},
			"repeated": {http.StatusOK, "suspicion=repeated"},
			"call":     {http.StatusOK, `called="POST payments.example"`},
		} {
			var log lines
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			checkEqual(t, "status of "+name, s.call(t, "POST", "/trouble/"+name, nil, nil), c.status)
			if !strings.Contains(log.String(), c.line) {
				t.Errorf("%s: %s is not in the log:\n%s", name, c.line, &log)
			}
		}
	})
}

// lines are for several goroutines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A page that somebody looks at does not keep the service from stopping.
func TestThePageOfTransactionsEndsWithTheService(t *testing.T) {
	s := startOnSQLite(t)
	resp, err := s.Client().Get(s.URL + "/debug/dbscope/stream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIt(t, resp.Body) })
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
