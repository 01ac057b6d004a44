package heldscope_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/heldscope"
	"github.com/dbscope/dbscope/observe/slogscope"
)

var ok = check.OK

// calls keeps those that it is told of.
type calls struct{ over []observe.Event }

func (c *calls) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, c
}

func (c *calls) End(_ context.Context, e observe.Event) {
	if e.Kind == observe.Call {
		c.over = append(c.over, e)
	}
}

// service is another one.
func service(t *testing.T) (url string, client *http.Client) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("charged"))
	}))
	t.Cleanup(s.Close)
	client = &http.Client{Transport: heldscope.Transport(nil)}
	t.Cleanup(client.CloseIdleConnections)
	return s.URL, client
}

func post(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/charges?card=4111", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestACallWhileATransactionIsOpenIsTold(t *testing.T) {
	told := &calls{}
	db := drivertest.NewFake().DB(dbscope.Observe(told))
	url, client := service(t)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, post(ctx, client, url)) // before
		ok(t, drivertest.Exec(ctx, db, "a"))
		ok(t, post(context.Background(), client, url)) // of nobody's unit
		ok(t, post(dbscope.WithoutScope(ctx), client, url))
		ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return post(ctx, client, url) })) // in another unit
		if len(told.over) > 0 {
			t.Errorf("told of %+v", told.over)
		}
		ok(t, post(ctx, client, url))
		ok(t, db.Commit(ctx))
		return post(ctx, client, url) // after
	}))
	if len(told.over) != 1 {
		t.Fatalf("told of %d calls, want one", len(told.over))
	}
	host := strings.TrimPrefix(url, "http://")
	if e := told.over[0]; e.Text != "POST "+host || e.DB != "fake" || e.Err != nil || e.Duration <= 0 {
		t.Errorf("told of %+v", e)
	}
}

func TestACallThatFailsIsToldWithItsError(t *testing.T) {
	told := &calls{}
	db := drivertest.NewFake().DB(dbscope.Observe(told))
	refused := errors.New("refused")
	client := &http.Client{Transport: heldscope.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, refused }))}
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, drivertest.Exec(ctx, db, "a"))
		check.Is(t, post(ctx, client, "http://payments.example"), refused)
		return nil
	}))
	if len(told.over) != 1 || !errors.Is(told.over[0].Err, refused) {
		t.Errorf("told of %+v", told.over)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestACallInAUnitThatNobodyObservesIsLogged(t *testing.T) {
	var written bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&written, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	db := drivertest.NewFake().DB()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, over := heldscope.Call(ctx, "the queue")
		over(nil)
		ok(t, drivertest.Exec(ctx, db, "a"))
		_, over = heldscope.Call(ctx, "the mail server")
		over(nil)
		return nil
	}))
	lines := slices.Collect(strings.Lines(written.String()))
	if len(lines) != 1 || !strings.Contains(lines[0], "the mail server") || !strings.Contains(lines[0], "heldscope_test.go:") {
		t.Errorf("wrote %q", lines)
	}
}

var shop = drivertest.NewFake().DB(dbscope.Name("shop"), dbscope.Observe(slogscope.New()))

var client = &http.Client{Transport: heldscope.Transport(http.DefaultTransport)}

// A payment that is asked for before the unit's first statement holds up nobody. With
// drivertest.Exec in front of it there would be a line in the log.
func ExampleTransport() {
	pay := func(ctx context.Context, order string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://payments.example/charges", strings.NewReader(order))
		if err != nil {
			return err
		}
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		return errors.Join(resp.Body.Close(), drivertest.Exec(ctx, shop, order))
	}
	_ = pay
}

// What calls another side in another way says so itself.
func ExampleCall() {
	send := func(ctx context.Context, mail string) (err error) {
		_, over := heldscope.Call(ctx, "the mail server")
		defer func() { over(err) }()
		return smtp.SendMail("mail.example:25", nil, "shop@example.com", []string{"me@example.com"}, []byte(mail))
	}
	_ = send
}
