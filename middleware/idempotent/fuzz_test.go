package idempotent_test

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/middleware/idempotent"
)

func TestKeys(t *testing.T) {
	for value, want := range map[string]string{
		`"8e03978e-40d5-43e8-bc93-6894a57f9324"`: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`8e03978e-40d5-43e8-bc93-6894a57f9324`:   "8e03978e-40d5-43e8-bc93-6894a57f9324",
		` "a b" `:                                "a b",
		`"a\"b\\c"`:                              `a"b\c`,
		"a=b/c+d:e":                              "a=b/c+d:e",
		strings.Repeat("x", 255):                 strings.Repeat("x", 255),
		"":                                       "", " ": "", `""`: "", `"`: "", `"a`: "", `"a"b`: "", `a"b`: "", `"a\b"`: "", `"a\`: "", `"a";p=1`: "", `"a", "b"`: "",
		"a,b": "", "a b": "", "a;p=1": "", "é": "", "\"é\"": "", "a\x00": "", "\"a\x7f\"": "", strings.Repeat("x", 256): "",
	} {
		got, err := idempotent.ParseKey([]string{value})
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q is the key %q (%v), want %q", value, got, err, want)
		}
	}
	for _, values := range [][]string{nil, {}, {"a", "a"}} {
		if key, err := idempotent.ParseKey(values); err == nil {
			t.Errorf("%q is the key %q", values, key)
		}
	}
}

// A key that is accepted is the same when it is written as the draft asks for.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{`"a"`, `a`, `"a\"b"`, `"`, "", `"a" `, "a,b", strings.Repeat("x", 300), "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := idempotent.ParseKey([]string{value})
		if err != nil {
			return
		}
		if len(key) < 1 || len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q is the key %q", value, key)
		}
		if again, err := idempotent.ParseKey([]string{idempotent.QuoteKey(key)}); again != key || err != nil {
			t.Fatalf("%q is the key %q, and that quoted is %q: %v", value, key, again, err)
		}
	})
}

// header makes one of a text: lines of a name and, behind the first colon, a value.
func header(text string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, has := strings.Cut(line, ":"); has {
			h[name] = append(h[name], value)
		} else {
			h[name] = nil
		}
	}
	return h
}

// What a handler does to the headers that it finds is done to the same headers later,
// whatever their names and values are.
func FuzzHeaders(f *testing.F) {
	f.Add("Vary:Origin\nX-Gone:1", "Vary:Origin\nVary:Accept\nX-New:2\nDate")
	f.Add("Set-Cookie:a=1", "Set-Cookie:a=1\nSet-Cookie:b=2")
	f.Add("", "x:\xff\x00\nx:\n:")
	f.Add("a:1\na:2", "a:2\na:1")
	f.Fuzz(func(t *testing.T, before, now string) {
		was, is := header(before), header(now)
		got, err := idempotent.Changed(was, is, maps.Clone(was))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []http.Header{got, is} {
			for name, values := range h {
				if len(values) == 0 {
					h[name] = nil
				}
			}
		}
		if !reflect.DeepEqual(got, is) {
			t.Fatalf("%q and then %q gives %q", was, is, got)
		}
	})
}

// Whatever is in the table, reading it does no harm, and writes either nothing or a whole response.
func FuzzStored(f *testing.F) {
	for _, seed := range []string{"", "\x01", "\x01\xc9\x01\x00\x00body", "\x01\xc8\x01\x01\x01a\x00\x01\x01b\x00body", "\x01\xc8\x01\xff\xff\xff\xff\x0f", "\x01\x63\x00\x00", "\x02\xc8\x01\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		w := httptest.NewRecorder()
		if err := idempotent.Play(text, w); err != nil {
			if len(w.Header()) > 0 || w.Body.Len() > 0 {
				t.Fatalf("%q was refused and written: %v", text, w)
			}
			return
		}
		if w.Code < 100 || w.Code > 999 || !bytes.HasSuffix(text, w.Body.Bytes()) || w.Header().Get(idempotent.ReplayedHeader) != "true" {
			t.Fatalf("%q was written as %v", text, w)
		}
		again, err := idempotent.Again(text)
		if err != nil {
			t.Fatal(err)
		}
		more, err := idempotent.Again(again) // the first text may have longer forms of numbers
		if err != nil || !bytes.Equal(more, again) {
			t.Fatalf("%q is stored as %q, and that as %q: %v", text, again, more, err)
		}
	})
}
