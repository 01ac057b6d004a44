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
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

func TestMain(m *testing.M) { os.Exit(mariatest.Main(pgtest.Main(m)).Run()) }

func TestOnPostgreSQLEverySubjectAnswersWhatItShouldAndStoresAllOrNothing(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.CreateDatabase(t)
	everySubject(t, subject.Postgres, dsn, func() {
		server.Query(t, dsn, "DROP TABLE IF EXISTS t;"+subject.Schema(subject.Postgres))
	})
}

func TestOnMariaDBEverySubjectAnswersWhatItShouldAndStoresAllOrNothing(t *testing.T) {
	server := mariatest.Shared(t)
	dsn := server.CreateDatabase(t)
	everySubject(t, subject.MariaDB, dsn, func() {
		server.Query(t, dsn[strings.LastIndex(dsn, "/")+1:], "DROP TABLE IF EXISTS t;"+subject.Schema(subject.MariaDB))
	})
}

func everySubject(t *testing.T, db, dsn string, prepare func()) {
	for _, name := range subject.Names(db) {
		t.Run(name, func(t *testing.T) {
			prepare()
			s, err := subject.Open(t.Context(), subject.Config{Name: name, DB: db, DSN: dsn, Conns: 2})
			ok(t, err)
			defer func() { ok(t, s.Close()) }()
			answers(t, s.Handler, subject.Autocommit(name))
		})
	}
}

// answers checks a service whose table is new.
func answers(t *testing.T, service http.Handler, autocommit bool) {
	call := func(work string, id int) (int, string) {
		w := httptest.NewRecorder()
		service.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), subject.Method(work), fmt.Sprintf("/%s/%d", work, id), http.NoBody))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	expect := func(work string, id int, want string) {
		t.Helper()
		if code, body := call(work, id); code != http.StatusOK || body != want {
			t.Errorf("%s %d: got %d %q, want %s", work, id, code, body, want)
		}
	}
	expect("read", 100, "0")
	expect("write", 100, "1")
	expect("read", 100, "1")
	expect("mixed", 100, "1") // 100, 102 and 104 are one more now
	expect("mixed", 100, "4")
	expect("read", 104, "2")
	expect("read", 103, "0")

	last := subject.Rows - 1
	for _, work := range subject.Works {
		if code, body := call(work, last+1); code != http.StatusInternalServerError {
			t.Errorf("%s of no row: got %d %q", work, code, body)
		}
	}
	if code, body := call("mixed", last); code != http.StatusInternalServerError {
		t.Errorf("mixed of rows that end: got %d %q", code, body)
	}
	stored := "0"
	if autocommit {
		stored = "1"
	}
	expect("read", last, stored)
}
