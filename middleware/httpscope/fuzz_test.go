package httpscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// script is what a handler does with its ResponseWriter: each pair of bytes is a
// step and its argument.
type script []byte

var statuses = []int{200, 201, 204, 206, 302, 304, 400, 404, 500, 103, 102, 100}

// run does the steps, and returns what the handler sees of them. Statements are for
// a handler that has a database.
func (s script) run(w http.ResponseWriter, r *http.Request, db *dbscope.DB[*drivertest.Tx], begins bool) (seen []string) {
	note := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	text := strings.Repeat("0123456789abcdef", 4)
	for ; len(s) >= 2; s = s[2:] {
		arg := int(s[1])
		part := text[:arg%len(text)]
		switch s[0] % 14 {
		case 0:
			w.Header().Set("X-"+string(rune('A'+arg%3)), strconv.Itoa(arg))
		case 1:
			w.Header().Add("X-"+string(rune('A'+arg%3)), strconv.Itoa(arg))
		case 2:
			w.Header().Del("X-" + string(rune('A'+arg%3)))
		case 3:
			w.WriteHeader(statuses[arg%len(statuses)])
		case 4, 5:
			n, err := io.WriteString(w, part)
			note("wrote %d, %v", n, err)
		case 6:
			n, err := w.Write([]byte(part))
			note("wrote %d, %v", n, err)
		case 7:
			n, err := io.Copy(w, strings.NewReader(part))
			note("copied %d, %v", n, err)
		case 8:
			if begins {
				note("flushed, %v", http.NewResponseController(w).Flush())
			}
		case 9:
			w.Header().Add("Trailer", "X-T"+strconv.Itoa(arg%3))
		case 10:
			w.Header().Set("X-T"+strconv.Itoa(arg%3), "trailer")
		case 11:
			w.Header().Set(http.TrailerPrefix+"X-U"+strconv.Itoa(arg%3), "trailer")
		case 12:
			if db != nil {
				// The client may have its whole answer already, and be gone.
				if err := drivertest.Exec(context.WithoutCancel(r.Context()), db, "row"); err != nil {
					note("the statement returned %v", err)
				}
			}
		case 13:
			if begins && arg%8 == 0 {
				panic(http.ErrAbortHandler)
			}
		}
	}
	return seen
}

// answer is what a client gets.
type answer struct {
	Info    []string
	Status  int
	Length  int64
	Header  http.Header
	Body    string
	Cut     bool
	Trailer http.Header
	None    bool
}

// fuzzed serves one request, and returns what its client gets and what its
// handler saw.
func fuzzed(t *testing.T, h func(w http.ResponseWriter, r *http.Request) []string, wrap func(http.Handler) http.Handler) (a answer, seen []string) {
	t.Helper()
	s := httptest.NewUnstartedServer(wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = h(w, r) })))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	defer s.Close()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			a.Info = append(a.Info, fmt.Sprint(code, h))
			return nil
		},
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Transport.RoundTrip(r)
	if err != nil {
		a.None = true
		s.Close() // waits for the handler
		return a, seen
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	s.Close()
	delete(resp.Header, "Date")
	a.Status, a.Length, a.Header, a.Body, a.Cut, a.Trailer = resp.StatusCode, resp.ContentLength, resp.Header, string(body), err != nil, resp.Trailer
	return a, seen
}

// FuzzWriter runs scripts with and without the middleware. Whatever a handler does,
// its client and the handler itself see the same where the unit is stored; where
// the commit fails before the response has begun, the client sees the failure page
// and nothing else.
func FuzzWriter(f *testing.F) {
	for _, s := range []string{
		"", "\x00\x01\x03\x01\x04\x09", "\x04\x05\x08\x00\x04\x06", "\x09\x00\x04\x05\x0a\x00", "\x0b\x01\x04\x02\x0b\x02",
		"\x03\x09\x03\x00\x06\x20", "\x03\x02\x04\x05", "\x03\x05\x07\x05", "\x0c\x00\x04\x20\x04\x20\x04\x20", "\x04\x10\x0d\x00",
		"\x08\x00\x0d\x00", "\x03\x07\x04\x05\x00\x01", "\x0c\x00\x08\x00\x0c\x00\x0a\x01", "\x07\x3f\x07\x3f\x02\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 60 {
			t.Skip("long programs show nothing more")
		}
		plain := func(h http.Handler) http.Handler { return h }
		want, wantSeen := fuzzed(t, func(w http.ResponseWriter, r *http.Request) []string {
			return script(program).run(w, r, nil, true)
		}, plain)
		for name, variant := range variants {
			db := drivertest.NewFake().DB()
			got, seen := fuzzed(t, func(w http.ResponseWriter, r *http.Request) []string {
				return script(program).run(w, r, db, true)
			}, variant)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(seen, wantSeen) {
				t.Errorf("%s: %q:\n  got  %+v, seen %q\n  want %+v, seen %q", name, program, got, seen, want, wantSeen)
			}
		}
		fails(t, program)
	})
}

// fails runs the script in a unit whose commit fails.
func fails(t *testing.T, program []byte) {
	t.Helper()
	fake := drivertest.NewFake()
	db := fake.DB()
	failure := 0
	page := httpscope.FailurePage(func(w http.ResponseWriter, _ *http.Request, err error) {
		if failure++; !errors.Is(err, dbscope.ErrRolledBack) {
			t.Errorf("the failure page is told %v", err)
		}
		http.Error(w, "failed", http.StatusTeapot)
	})
	always := httpscope.CommitWhen(func(*http.Request, int) bool { return true })
	fake.Inject("commit", drivertest.Fault{Err: errors.New("no"), Outcome: driver.RolledBack})
	got, _ := fuzzed(t, func(w http.ResponseWriter, r *http.Request) []string {
		if err := drivertest.Exec(r.Context(), db, "row"); err != nil {
			t.Error(err)
		}
		return script(program).run(w, r, db, false)
	}, httpscope.Middleware(page, always, httpscope.HoldLimit(1<<20), httpscope.OnError(func(*http.Request, error) {})))
	want := http.Header{"Content-Length": {"7"}, "Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}}
	if failure != 1 || got.Status != http.StatusTeapot || got.Body != "failed\n" || got.Cut || len(got.Trailer) > 0 || !reflect.DeepEqual(got.Header, want) {
		t.Errorf("%q: the client of a failed unit got %+v", program, got)
	}
	if rows := fake.Rows(); len(rows) > 0 {
		t.Errorf("%q: rows %q are stored", program, rows)
	}
}
