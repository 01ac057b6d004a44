package idempotent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/dbscope/dbscope/internal/backoff"
)

// Transport is an [http.RoundTripper] for clients of services that do requests exactly
// once. It gives each request that is not safe a key of its own, unless it has one, and
// sends it again where it got no answer, or one that says to try again: 409 and 429 with
// Retry-After, 408, 425, 500, 502, 503 and 504. It must be used only for services that
// know such keys. The zero value is ready to use, and safe for concurrent use.
//
//	client := &http.Client{Transport: &idempotent.Transport{}, Timeout: time.Minute}
//
// The key is lost with the program. A client that has to finish after a crash what it
// has begun makes the key itself, stores it with what it is for, and sets the header.
type Transport struct {
	Base     http.RoundTripper // sends the requests; the default is [http.DefaultTransport]
	Header   string            // has the key; the default is Idempotency-Key
	Attempts int               // of each request, the first included; the default is 8
	MinDelay time.Duration     // before the second attempt, doubled for each further one; the default is 100 ms
	MaxDelay time.Duration     // the longest wait; a Retry-After that is longer ends the attempts. The default is 10 s
	// MaxBody is how much of a body is kept in memory: of a request without GetBody, which
	// is sent once where it is larger; and of an answer, which is read before RoundTrip
	// returns, since it may break off too, except for what is larger. The default is 1 MiB.
	MaxBody int64
}

const defaultMaxBody = 1 << 20

// RoundTrip implements [http.RoundTripper]. It blocks until there is an answer, all
// attempts have failed, or the request's context is done.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if isSafe(r.Method) {
		return base.RoundTrip(r)
	}
	header := cmp.Or(t.Header, defaultHeader)
	keyed := r.Clone(r.Context())
	if keyed.Header.Get(header) == "" {
		keyed.Header.Set(header, quote(rand.Text()))
	}
	body, attempts, err := t.keep(r)
	if err != nil {
		return nil, err
	}
	policy := backoff.Policy{Attempts: attempts, MinDelay: cmp.Or(t.MinDelay, 100*time.Millisecond), MaxDelay: t.longest()}
	for n := 1; ; n++ {
		resp, err := t.send(base, keyed, body)
		again, after := t.again(r.Context(), resp, err)
		if !again || n >= attempts {
			if err != nil && n > 1 {
				err = fmt.Errorf("idempotent: %d attempts failed, the last with: %w", n, err)
			}
			return resp, err
		}
		if failed := pauseFor(r.Context(), &policy, n, after, err); failed != nil {
			if resp != nil { // which is an answer
				return resp, nil
			}
			return nil, failed
		}
		if resp != nil {
			_ = resp.Body.Close() // of what is larger than was read
		}
	}
}

func (t *Transport) longest() time.Duration { return cmp.Or(t.MaxDelay, 10*time.Second) }
func (t *Transport) maxBody() int64         { return cmp.Or(t.MaxBody, defaultMaxBody) }

// keep returns what makes the request's body anew, and how often.
func (t *Transport) keep(r *http.Request) (body func() (io.ReadCloser, error), attempts int, err error) {
	attempts = cmp.Or(t.Attempts, 8)
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return func() (io.ReadCloser, error) { return r.Body, nil }, attempts, nil
	case r.GetBody != nil:
		return r.GetBody, attempts, r.Body.Close()
	}
	kept, err := io.ReadAll(io.LimitReader(r.Body, t.maxBody()+1))
	if err != nil {
		_ = r.Body.Close()
		return nil, 0, fmt.Errorf("idempotent: reading the request's body: %w", err)
	}
	if int64(len(kept)) > t.maxBody() {
		whole := struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(kept), r.Body), r.Body}
		return func() (io.ReadCloser, error) { return whole, nil }, 1, nil
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }, attempts, r.Body.Close()
}

// send makes one attempt, and reads its answer.
func (t *Transport) send(base http.RoundTripper, keyed *http.Request, body func() (io.ReadCloser, error)) (*http.Response, error) {
	attempt := keyed.Clone(keyed.Context())
	var err error
	if attempt.Body, err = body(); err != nil {
		return nil, fmt.Errorf("idempotent: the request's body cannot be read again: %w", err)
	}
	resp, err := base.RoundTrip(attempt)
	if err != nil {
		return nil, err
	}
	read, err := io.ReadAll(io.LimitReader(resp.Body, t.maxBody()+1))
	if err != nil {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("idempotent: the answer broke off: %w", err)
	}
	if int64(len(read)) > t.maxBody() {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(read), resp.Body), resp.Body}
		return resp, nil
	}
	if err := resp.Body.Close(); err != nil {
		return nil, fmt.Errorf("idempotent: the answer broke off: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(read))
	return resp, nil
}

// again reports whether the request is to be sent again, and how long after at least.
func (t *Transport) again(ctx context.Context, resp *http.Response, err error) (again bool, after time.Duration) {
	if ctx.Err() != nil {
		return false, 0
	}
	if err != nil {
		return true, 0
	}
	after, says := retryAfterOf(resp.Header.Get("Retry-After"))
	switch resp.StatusCode {
	case http.StatusConflict, http.StatusTooManyRequests:
		again = says
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return again && after <= t.longest(), after
}

// retryAfterOf reads a Retry-After, see RFC 9110, section 10.2.3.
func retryAfterOf(text string) (after time.Duration, says bool) {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true //nolint:gosec // it has 31 bits
	}
	at, err := http.ParseTime(text)
	return max(time.Until(at), 0), err == nil
}

// pauseFor waits before the next attempt.
func pauseFor(ctx context.Context, policy *backoff.Policy, attempt int, after time.Duration, err error) error {
	if err := policy.Wait(ctx, attempt, cmp.Or(err, errAgain)); err != nil {
		return err
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errAgain = errors.New("idempotent: the service says to try again")
