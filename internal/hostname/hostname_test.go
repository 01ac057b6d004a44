package hostname_test

import (
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/hostname"
)

func TestHostsAreNamesAddressesAndPathsOfSockets(t *testing.T) {
	for _, host := range []string{
		"localhost", "db", "my_db", "db-1.example.com", "db.example.com.", "db.example.com:5432", "1",
		"127.0.0.1", "127.0.0.1:5432", "::1", "2001:db8::1", "[::1]", "[2001:db8::1]:5432", "fe80::1%eth0", "[fe80::1%eth0]:5432",
		"a,b", "a:5432,[::1]:5433,10.0.0.1", "/var/run/postgresql", "/tmp/.s.PGSQL.5432",
	} {
		if err := hostname.Check(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestWhatWouldBeginSomethingElseIsNoHost(t *testing.T) {
	for _, text := range []string{
		"", " ", "127.0.0.1 port=1 user=postgres dbname=template1", "127.0.0.1\tuser=postgres", "127.0.0.1\nuser=postgres",
		"h/evil?x", "h?x", "h#x", "evil@h", "h@evil", "app:pw@h", "h)/x?allowAllFiles=true", "h(x", "h'", `h"`, `h\`, "h=x", "h&x", "h;x", "h%20x",
		"h\x00", "h\x7f", "hö", "h:", ":5432", "h:x", "h:0", "h:65536", "h:-1", "h:5432:5433", "a,,b", "a, b", ",a", ".", "..", "a..b", ".a",
		"[::1", "::1]", "[h]", "[127.0.0.1]", "[::1]x", "[::1]:", "[::1]/x", "[::1?x]", "fe80::1%a b", "fe80::1%a?b", "[fe80::1%a/b]",
		"/var/run?x", "/var/run user=x", "/a@b", "postgres://app:hunter2@h/shop", strings.Repeat("h", 2000),
	} {
		err := hostname.Check(text)
		if err == nil {
			t.Errorf("%q is taken for a host", text)
		} else if strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 100 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What is taken for a host has no byte that begins something else in a URL, in
// a list of keywords and values, or in a data source name of MariaDB.
func FuzzCheck(f *testing.F) {
	for _, host := range []string{"db", "[::1]:5432", "h/evil?x", "fe80::1%a", "/run/x", "a,b:1", "127.0.0.1 user=x"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if hostname.Check(host) != nil {
			return
		}
		forbidden := " \t\r\n\v\f?#@()'\"\\=&;\x00"
		if !hostname.IsPath(host) {
			forbidden += "/"
		}
		if strings.ContainsAny(host, forbidden) {
			t.Errorf("%q is taken for a host", host)
		}
	})
}
