package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWithoutADatabaseOfVulnerabilitiesNothingFailsButThatIsSaid(t *testing.T) {
	repo := repository(t, nil)
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	for _, database := range []string{gone.URL, "http://127.0.0.1:1"} {
		t.Setenv("GOVULNDB", database)
		var out bytes.Buffer
		r := &release{repo: repo, bin: "there is none", out: &out}
		if err := r.vulnerabilities(t.Context()); err != nil || !strings.HasPrefix(out.String(), "skipped: ") {
			t.Errorf("with %s it says %q, %v", database, out.String(), err)
		}
	}
}

func TestWithADatabaseAFindingFails(t *testing.T) {
	repo := repository(t, nil)
	there := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer there.Close()
	t.Setenv("GOVULNDB", there.URL)
	r := &release{repo: repo, bin: "there is none", out: &bytes.Buffer{}}
	if err := r.vulnerabilities(t.Context()); err == nil {
		t.Error("govulncheck, which could not be run, has found nothing")
	}
}
