package routertest

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
)

// overHTTP checks that an answer's tokens are in both places.
var overHTTP = caller{ask: func(t *testing.T, method, url, header, cookie string) (int, []string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	if header != "" {
		r.Header.Set(Header, header)
	}
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: Cookie, Value: cookie})
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Error(err)
	}
	var cookies []string
	for _, c := range resp.Cookies() {
		cookies = append(cookies, c.Value)
		if c.Name != Cookie || c.Path != "/" || c.MaxAge != 30 || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("the cookie is %s", c.Raw)
		}
	}
	headers := resp.Header.Values(Header)
	if !slices.Equal(headers, cookies) {
		t.Errorf("the response has the tokens %q and the cookies %q", headers, cookies)
	}
	return resp.StatusCode, headers
}}
