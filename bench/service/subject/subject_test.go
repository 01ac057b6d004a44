package subject_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

func TestEverySubjectAnswersWhatItShouldAndStoresAllOrNothing(t *testing.T) {
	server := pgtest.Shared(t)
	for _, name := range subject.Names(subject.Postgres) {
		t.Run(name, func(t *testing.T) {
			dsn := server.CreateDatabase(t)
			server.Query(t, dsn, subject.Schema(subject.Postgres))
			s, err := subject.Open(t.Context(), subject.Config{Name: name, DB: subject.Postgres, DSN: dsn, Conns: 2})
			ok(t, err)
			defer func() { ok(t, s.Close()) }()

			call := func(work string, id int) (int, string) {
				w := httptest.NewRecorder()
				s.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), subject.Method(work), fmt.Sprintf("/%s/%d", work, id), http.NoBody))
				return w.Code, strings.TrimSpace(w.Body.String())
			}
			answers := func(work string, id int, want string) {
				t.Helper()
				if code, body := call(work, id); code != http.StatusOK || body != want {
					t.Errorf("%s %d: got %d %q, want %s", work, id, code, body, want)
				}
			}
			answers("read", 100, "0")
			answers("write", 100, "1")
			answers("read", 100, "1")
			answers("mixed", 100, "1") // 100, 102 and 104 are one more now
			answers("mixed", 100, "4")
			answers("read", 104, "2")
			answers("read", 103, "0")

			last := subject.Rows - 1
			for _, work := range subject.Works {
				if code, body := call(work, last+1); code != http.StatusInternalServerError {
					t.Errorf("%s of no row: got %d %q", work, code, body)
				}
			}
			if code, _ := call("mixed", last); code != http.StatusInternalServerError {
				t.Errorf("mixed of rows that end: got %d", code)
			}
			want := "0"
			if subject.Autocommit(name) {
				want = "1"
			}
			answers("read", last, want)
		})
	}
}
