package shoptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// HTTP returns the client of a shop that speaks JSON. The send is
// [http.Client.Do], or what a framework has in its place for tests.
func HTTP(url string, send func(*http.Request) (*http.Response, error)) Client {
	return httpClient{url, send}
}

type httpClient struct {
	url  string
	send func(*http.Request) (*http.Response, error)
}

func (c httpClient) Place(ctx context.Context, customer, sku string, quantity int) (o Order, err error) {
	body, err := json.Marshal(Order{Customer: customer, SKU: sku, Quantity: quantity})
	if err != nil {
		return o, err
	}
	return o, c.call(ctx, http.MethodPost, string(body), http.StatusCreated, &o)
}

func (c httpClient) Orders(ctx context.Context) (all []Order, err error) {
	return all, c.call(ctx, http.MethodGet, "", http.StatusOK, &all)
}

func (c httpClient) call(ctx context.Context, method, body string, want int, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+"/orders", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	switch resp.StatusCode {
	case want:
		return json.Unmarshal(text, answer)
	case http.StatusConflict:
		return ErrRefused
	case http.StatusBadRequest:
		return ErrInvalid
	}
	return fmt.Errorf("%s: %s", resp.Status, text)
}
