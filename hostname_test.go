package dbscope_test

import (
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// noHosts would begin something else in a connection string, and the last one
// holds a password.
var noHosts = []string{
	"127.0.0.1 port=5432 user=postgres dbname=template1", "h/evil?x", "evil@h", "h)/x?allowAllFiles=true", "h' user='postgres",
	`h\`, "h\n", "h?sslmode=disable", "h#", "h&user=postgres", "app:hunter2@h",
}

// refusesHost checks the error of a host that is none: it names the DB, says what
// is wrong, and does not repeat what was given.
func refusesHost(t *testing.T, err error, host string) {
	t.Helper()
	if err == nil {
		t.Fatalf("%q is taken for a host", host)
	}
	if text := err.Error(); !strings.HasPrefix(text, "dbscope: shop: ") || !strings.Contains(text, "is none") || strings.Contains(text, host) {
		t.Errorf("%q: the error is %v", host, err)
	}
}

func TestWhatIsNoHostIsRefusedBeforeItIsPastedAnywhere(t *testing.T) {
	for _, host := range noHosts {
		f, db := newFake(t, dbscope.Name("shop"), dbscope.Host(host))
		refusesHost(t, execOnce(t.Context(), db, "row"), host)
		equal(t, "pools", opens(f))
		ok(t, db.Close())

		f, db = newFake(t, dbscope.Name("shop"), dbscope.Host("one"))
		ok(t, execOnce(t.Context(), db, "row"))
		refusesHost(t, db.SwitchHost(t.Context(), host), host)
		ok(t, execOnce(t.Context(), db, "row"))
		equal(t, "pools", opens(f), "open one")
		ok(t, db.Close())

		r, f, db := newRouted(t, dbscope.Name("shop"))
		r.route = func(driver.RouteRequest) (driver.Route, error) { return driver.Route{Host: host}, nil }
		refusesHost(t, execOnce(t.Context(), db, "row"), host)
		if _, err := r.open(t.Context(), host); err == nil || strings.Contains(err.Error(), host) {
			t.Errorf("%q: the router's own pool: %v", host, err)
		}
		equal(t, "pools", opens(f))
		ok(t, db.Close())
	}
}
