package livescope_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/observe/livescope"
)

var (
	ok      = check.OK
	errStop = errors.New("the secret of a user")
)

func newPage(opts ...livescope.Option) (*livescope.Page, *drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	p := livescope.New(opts...)
	f := drivertest.NewFake()
	return p, f, f.DB(dbscope.Observe(p), dbscope.Name("shop"))
}

// local is a request of a client on the same machine.
func local(method, path string) *http.Request {
	r := httptest.NewRequest(method, "http://localhost:8080"+path, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	return r
}

func get(p http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, local(http.MethodGet, "/debug/dbscope/"+path))
	return w
}

// unit is a part of what the page shows of one.
type unit struct {
	ID, Parent                                     uint64
	Name, Outcome, Error, Doing, Statement, Opened string
	Over                                           bool
	Took                                           float64
	Statements                                     int
	Found                                          []struct{ What, Sentence, Opened, At, Text string }
	Steps                                          []struct {
		Kind, Text, Outcome string
		Start, Took         float64
	}
}

type overview struct {
	Units, Failed, Found, Hidden, Waiting, Open int
	Live, Suspicious, Failures, Slowest, Recent []unit
	Hosts                                       []struct {
		DB, Host             string
		Reads, Others, Share int
	}
}

func read[T any](t *testing.T, p http.Handler, path string) (v T) {
	t.Helper()
	w := get(p, path)
	if w.Code != http.StatusOK {
		t.Fatalf("%s answers %d", path, w.Code)
	}
	ok(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

func store(ctx context.Context, db *dbscope.DB[*drivertest.Tx], rows ...string) error {
	for _, row := range rows {
		if err := drivertest.Exec(ctx, db, row); err != nil {
			return err
		}
	}
	return nil
}

func TestAUnitUnderWayIsShownWithWhatItDoesAndWhere(t *testing.T) {
	p, _, db := newPage()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db, "insert secret"))
		o := read[overview](t, p, "overview")
		if len(o.Live) != 1 || o.Open != 1 {
			t.Fatalf("shown: %+v", o)
		}
		u := o.Live[0]
		if u.Name != "POST /orders" || u.Over || u.Doing != "idle in transaction of shop" || !strings.Contains(u.Opened, "livescope_test.go:") {
			t.Errorf("shown: %+v", u)
		}
		return nil
	}, dbscope.Name("POST /orders")))
	o := read[overview](t, p, "overview")
	if len(o.Live) != 0 || o.Units != 1 || len(o.Recent) != 1 || len(o.Slowest) != 1 || len(o.Failures)+len(o.Suspicious) != 0 {
		t.Errorf("shown: %+v", o)
	}
}

func TestATimelineHasWhatTheUnitDidAndWhatTheApplicationDidMeanwhile(t *testing.T) {
	p, _, db := newPage()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db, "insert into orders"))
		time.Sleep(5 * time.Millisecond)
		return store(ctx, db, "update stock")
	}))
	id := read[overview](t, p, "overview").Recent[0].ID
	u := read[unit](t, p, fmt.Sprint("units/", id))
	var steps []string
	for _, s := range u.Steps {
		steps = append(steps, strings.Join(strings.Fields(s.Kind+" "+s.Text+" "+s.Outcome), " "))
		if s.Kind == "application" && s.Took < 5 {
			t.Errorf("the application took %v ms", s.Took)
		}
	}
	var idle []string // other pauses, on a busy machine
	for i, s := range steps {
		if s != "application" || i == 3 {
			idle = append(idle, s)
		}
	}
	check.Equal(t, "steps", idle, "wait", "begin", "statement insert", "application", "statement update", "commit committed")
	if w := get(p, "units/999999"); w.Code != http.StatusNotFound {
		t.Errorf("a unit that there is not answers %d", w.Code)
	}
}

func TestTextsAreShownOnlyWhereTheProgramSaysSo(t *testing.T) {
	for _, shows := range []bool{false, true} {
		opts := []livescope.Option{livescope.Repetitions(2)}
		if shows {
			opts = append(opts, livescope.StatementText(), livescope.ErrorText())
		}
		p, f, db := newPage(opts...)
		var all strings.Builder
		look := func() {
			o := get(p, "overview").Body.String()
			all.WriteString(o)
			var v overview
			ok(t, json.Unmarshal([]byte(o), &v))
			for _, u := range append(v.Live, v.Recent...) {
				all.WriteString(get(p, fmt.Sprint("units/", u.ID)).Body.String())
			}
		}
		running, release := make(chan struct{}), make(chan struct{})
		f.Inject("exec", drivertest.Fault{Entered: running, Until: release, Err: errStop})
		_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			for range 3 {
				rows, err := tx.Query(ctx, "select 'query-text'")
				ok(t, err)
				ok(t, rows.Close())
			}
			done := make(chan error)
			go func() { done <- tx.Exec(ctx, "insert 'insert-text'") }()
			<-running
			look()
			close(release)
			return <-done
		})
		look()
		for _, text := range []string{"query-text", "insert-text", "secret"} {
			if strings.Contains(all.String(), text) != shows {
				t.Errorf("with the options %v: %q is shown: %v", shows, text, !shows)
			}
		}
	}
}

func TestFailedAndSuspiciousUnitsAreListed(t *testing.T) {
	p, _, db := newPage(livescope.Idle(time.Millisecond))
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db, "a"))
		check.Eventually(t, "it is suspicious", func() bool { return read[overview](t, p, "overview").Found > 0 })
		return errStop
	})
	o := read[overview](t, p, "overview")
	if len(o.Failures) != 1 || o.Failures[0].Error != "*errors.errorString" || o.Failed != 1 {
		t.Errorf("failed: %+v", o.Failures)
	}
	if len(o.Suspicious) != 1 || o.Suspicious[0].Found[0].What != "idle" || !strings.Contains(o.Suspicious[0].Found[0].Opened, "livescope_test.go:") {
		t.Errorf("suspicious: %+v", o.Suspicious)
	}
}

func TestHostsAreShownWithTheirShareOfReads(t *testing.T) {
	p := livescope.New()
	f := drivertest.NewFake()
	db := f.DB(dbscope.Observe(p), dbscope.Name("shop"), dbscope.Host("db1"))
	for range 3 {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db, "a") }, dbscope.ReadOnly()))
	}
	ok(t, db.SwitchHost(t.Context(), "db2"))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db, "a") }, dbscope.ReadOnly()))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db, "a") }))
	hosts := read[overview](t, p, "overview").Hosts
	if got, want := fmt.Sprint(hosts), "[{shop db1 3 0 75} {shop db2 1 1 25}]"; got != want {
		t.Errorf("hosts are %s, want %s", got, want)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	p, _, db := newPage()
	for range 5000 {
		_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, store(ctx, db, "a"))
			return errStop
		})
	}
	o := read[overview](t, p, "overview")
	if len(o.Recent) != 50 || len(o.Failures) != 50 || len(o.Slowest) != 20 || len(o.Live) != 0 {
		t.Errorf("kept: %d latest, %d failed, %d slowest, %d under way", len(o.Recent), len(o.Failures), len(o.Slowest), len(o.Live))
	}
	for i := range o.Slowest[1:] {
		if o.Slowest[i].Took < o.Slowest[i+1].Took {
			t.Errorf("the slowest are not in order: %v before %v", o.Slowest[i].Took, o.Slowest[i+1].Took)
		}
	}
}

func TestWhatIsOldIsNotShown(t *testing.T) {
	p, _, db := newPage(livescope.Keep(time.Nanosecond))
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db, "a"))
		return errStop
	})
	if o := read[overview](t, p, "overview"); len(o.Recent)+len(o.Failures)+len(o.Slowest) != 0 {
		t.Errorf("shown: %+v", o)
	}
}

func TestOnlyClientsOnTheSameMachineSeeThePage(t *testing.T) {
	p, _, _ := newPage()
	for name, c := range map[string]struct {
		change func(*http.Request)
		sees   bool
	}{
		"on the same machine":             {func(*http.Request) {}, true},
		"by its address":                  {func(r *http.Request) { r.Host = "127.0.0.1:8080" }, true},
		"by IPv6":                         {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4000", "[::1]:8080" }, true},
		"by IPv4 in IPv6":                 {func(r *http.Request) { r.RemoteAddr = "[::ffff:127.0.0.1]:4000" }, true},
		"by a name of the machine's":      {func(r *http.Request) { r.Host = "shop.localhost" }, true},
		"on another machine":              {func(r *http.Request) { r.RemoteAddr = "192.0.2.7:4000" }, false},
		"by a name that was led here":     {func(r *http.Request) { r.Host = "evil.example" }, false},
		"by a name that looks like one":   {func(r *http.Request) { r.Host = "localhost.evil.example:8080" }, false},
		"through a proxy":                 {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.7") }, false},
		"through one that says Forwarded": {func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.7") }, false},
		"without an address":              {func(r *http.Request) { r.RemoteAddr = "@" }, false},
		"asked for by another site":       {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, false},
		"by a link of another site": {func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, true},
	} {
		for _, path := range []string{"", "page.js", "overview", "stream", "units/1"} {
			r := local(http.MethodHead, "/debug/dbscope/"+path)
			if path != "stream" {
				r.Method = http.MethodGet
			}
			c.change(r)
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if sees := w.Code != http.StatusForbidden; sees != c.sees {
				t.Errorf("%s: %q answers %d", name, path, w.Code)
			}
		}
	}
}

func TestWhoMaySeeThePageIsTheProgramsToSay(t *testing.T) {
	p := livescope.New(livescope.Allow(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer x" }))
	r := httptest.NewRequest(http.MethodGet, "http://shop.example/debug/dbscope/", nil)
	for _, want := range []int{http.StatusForbidden, http.StatusOK} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("it answers %d, want %d", w.Code, want)
		}
		r.Header.Set("Authorization", "Bearer x")
	}
}

func TestThePageNeedsNothingFromElsewhereAndChangesNothing(t *testing.T) {
	p, _, _ := newPage()
	for _, path := range []string{"", "page.js", "style.css", "icon.svg", "overview"} {
		w := get(p, path)
		h := w.Result().Header
		if w.Code != http.StatusOK || h.Get("Content-Type") == "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q answers %d with %v", path, w.Code, h)
		}
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
			t.Errorf("the policy of %q is %q", path, csp)
		}
		if h.Get("Set-Cookie") != "" {
			t.Errorf("%q sets a cookie", path)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, local(method, "/debug/dbscope/"))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s answers %d", method, w.Code)
		}
	}
	if w := get(p, "nothing"); w.Code != http.StatusNotFound {
		t.Errorf("what there is not answers %d", w.Code)
	}
	elsewhere := regexp.MustCompile(`(?i)(src|href|url\(|import|fetch\()[^\n]{0,5}["'(]?(https?:)?//|<form|<script>|style="|\son[a-z]+="|innerHTML|eval\(|document\.cookie|localStorage`)
	ok(t, fs.WalkDir(os.DirFS("page"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile("page/" + name)
		if found := elsewhere.FindString(string(content)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
		return err
	}))
}

func TestTheStreamTellsWhatGoesOnUntilItsReaderLeaves(t *testing.T) {
	p, _, db := newPage(livescope.Every(time.Millisecond))
	server := httptest.NewServer(p)
	defer server.Close() // which waits for the stream's end
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/stream", nil)
	ok(t, err)
	resp, err := http.DefaultClient.Do(r)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("it is %q", kind)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func() (o overview) {
		for lines.Scan() {
			if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
				ok(t, json.Unmarshal([]byte(data), &o))
				return o
			}
		}
		t.Fatalf("the stream has ended: %v", lines.Err())
		return o
	}
	if o := next(); len(o.Live) != 0 {
		t.Errorf("told of %+v", o.Live)
	}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db, "a"))
		for len(next().Live) == 0 {
		}
		return nil
	}))
	for len(next().Recent) == 0 {
	}
}

func TestOnlySomeMayLookAtATime(t *testing.T) {
	p, _, _ := newPage()
	server := httptest.NewServer(p)
	defer server.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	look := func() int {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/stream", nil)
		ok(t, err)
		resp, err := http.DefaultClient.Do(r)
		ok(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp.StatusCode
	}
	for range 8 {
		if code := look(); code != http.StatusOK {
			t.Errorf("it answers %d", code)
		}
	}
	if code := look(); code != http.StatusServiceUnavailable {
		t.Errorf("it answers %d", code)
	}
}

var shop = drivertest.NewFake().DB(dbscope.Observe(live))

var live = livescope.New()

// The page is on the same server as everything else, outside of the middleware that makes
// units.
func Example() {
	mux := http.NewServeMux()
	mux.Handle("/debug/dbscope/", live)
	_ = mux
	_ = shop
}
