package idempotent_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope/middleware/idempotent"
)

// base answers requests, one function for each attempt, and notes what it got.
type base struct {
	answers []func() (*http.Response, error)
	keys    []string
	bodies  []string
}

func (b *base) RoundTrip(r *http.Request) (*http.Response, error) {
	b.keys = append(b.keys, r.Header.Get("Idempotency-Key"))
	body := ""
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		body = string(text)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	b.bodies = append(b.bodies, body)
	return b.answers[min(len(b.keys), len(b.answers))-1]()
}

var errCut = errors.New("the connection was cut")

func cut() (*http.Response, error) { return nil, errCut }

func status(code int, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return body(code, strings.NewReader("answer"), header...)() }
}

func body(code int, of io.Reader, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(of)}, nil
	}
}

// breaksOff is a body that ends too early.
type breaksOff struct{}

func (breaksOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func send(t *testing.T, transport *idempotent.Transport, r *http.Request) (code int, text string, err error) {
	t.Helper()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		if resp != nil {
			t.Error("there is an answer, and an error")
		}
		return 0, "", err
	}
	read, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(read), nil
}

func post(t *testing.T, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://service/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestATransportSendsARequestAgainWithItsKeyUntilItHasAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &base{answers: []func() (*http.Response, error){
			cut, status(502), status(409, "Retry-After", "3"), body(201, breaksOff{}), status(500), status(201),
		}}
		began := time.Now()
		code, text, err := send(t, &idempotent.Transport{Base: b}, post(t, "tea"))
		if code != 201 || text != "answer" || err != nil || len(b.keys) != 6 {
			t.Errorf("after %d attempts the client got %d %q %v", len(b.keys), code, text, err)
		}
		for i := range b.keys {
			if b.keys[i] != b.keys[0] || len(b.keys[i]) < 20 || b.keys[i][0] != '"' || b.bodies[i] != "tea" {
				t.Errorf("attempt %d had the key %s and the body %q", i, b.keys[i], b.bodies[i])
			}
		}
		if took := time.Since(began); took < 3*time.Second || took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		first := b.keys[0]
		if _, _, err = send(t, &idempotent.Transport{Base: b}, post(t, "tea")); err != nil || b.keys[6] == first {
			t.Errorf("another request has the key %s, as %s", b.keys[6], first)
		}
	})
}

func TestATransportLeavesAnAnswerAsItIs(t *testing.T) {
	for _, answer := range []func() (*http.Response, error){
		status(200), status(400), status(404), status(409), status(422), status(501), status(429), status(303, "Location", "/"),
		status(503, "Retry-After", "3600"), status(409, "Retry-After", "soon"),
	} {
		b := &base{answers: []func() (*http.Response, error){answer}}
		if _, text, err := send(t, &idempotent.Transport{Base: b}, post(t, "tea")); text != "answer" || err != nil || len(b.keys) != 1 {
			t.Errorf("after %d attempts the client got %q %v", len(b.keys), text, err)
		}
	}
}

func TestATransportGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &base{answers: []func() (*http.Response, error){cut}}
		if _, _, err := send(t, &idempotent.Transport{Base: b, Attempts: 3}, post(t, "tea")); !errors.Is(err, errCut) || !strings.Contains(err.Error(), "3 attempts") || len(b.keys) != 3 {
			t.Errorf("after %d attempts the error is %v", len(b.keys), err)
		}
		b = &base{answers: []func() (*http.Response, error){status(503)}}
		if code, text, err := send(t, &idempotent.Transport{Base: b, Attempts: 3}, post(t, "tea")); code != 503 || text != "answer" || err != nil || len(b.keys) != 3 {
			t.Errorf("after %d attempts the client got %d %q %v", len(b.keys), code, text, err)
		}
		for _, answer := range []func() (*http.Response, error){cut, status(503, "Retry-After", "9")} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			b = &base{answers: []func() (*http.Response, error){answer}}
			began := time.Now()
			code, _, err := send(t, &idempotent.Transport{Base: b, Attempts: 1000}, post(t, "tea").WithContext(ctx))
			if code != 503 && !errors.Is(err, errCut) || time.Since(began) != 5*time.Second {
				t.Errorf("after %v the client got %d %v", time.Since(began), code, err)
			}
			cancel()
		}
	})
}

func TestATransportKeepsWhatItSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		twice := []func() (*http.Response, error){cut, status(200)}
		unknown := func(text string) *http.Request { // a body that can be read once
			r := post(t, "")
			r.Body, r.GetBody, r.ContentLength = io.NopCloser(strings.NewReader(text)), nil, -1
			return r
		}
		b := &base{answers: twice}
		if _, _, err := send(t, &idempotent.Transport{Base: b, MaxBody: 8}, unknown("12345678")); err != nil || b.bodies[1] != "12345678" {
			t.Errorf("the bodies are %q: %v", b.bodies, err)
		}
		b = &base{answers: twice}
		if _, _, err := send(t, &idempotent.Transport{Base: b, MaxBody: 8}, unknown("123456789")); !errors.Is(err, errCut) || len(b.bodies) != 1 || b.bodies[0] != "123456789" {
			t.Errorf("a body that is too large was sent as %q: %v", b.bodies, err)
		}
		b = &base{answers: []func() (*http.Response, error){body(200, strings.NewReader("123456789"))}}
		if _, text, err := send(t, &idempotent.Transport{Base: b, MaxBody: 8}, post(t, "")); err != nil || text != "123456789" {
			t.Errorf("an answer that is large is %q: %v", text, err)
		}
		r := post(t, "")
		r.Header.Set("X-Key", "mine")
		b = &base{answers: twice}
		if _, _, err := send(t, &idempotent.Transport{Base: b, Header: "X-Key"}, r); err != nil || b.keys[0] != "" || r.Header.Get("X-Key") != "mine" {
			t.Errorf("the keys are %q: %v", b.keys, err)
		}
		r = post(t, "")
		r.Method = http.MethodGet
		b = &base{answers: twice}
		if _, _, err := send(t, &idempotent.Transport{Base: b}, r); !errors.Is(err, errCut) || b.keys[0] != "" {
			t.Errorf("reading was sent with the keys %q: %v", b.keys, err)
		}
	})
}
