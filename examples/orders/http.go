package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

const (
	maxJSONBytes = 64 << 10
	defaultPage  = 20
	maxPage      = 100

	// A database host that is frozen never answers; the requests that are on it
	// give up then. An import has that long, too.
	requestTimeout = 30 * time.Second
)

// newHandler is the service with its page, and the page that shows its
// transactions, which stays open until ctx ends. The pages have no unit of work.
func newHandler(ctx context.Context, db *database) http.Handler {
	mux := http.NewServeMux()
	addPage(mux)
	mux.Handle("/debug/dbscope/", until(ctx, db.live))
	mux.Handle("/", newAPI(db.DB))
	// The page of another site, in a browser that may come here, places no order.
	return http.NewCrossOriginProtection().Handler(mux)
}

// until ends requests with ctx. A server that stops would wait for those that
// never end by themselves.
func until(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		both, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		next.ServeHTTP(w, r.WithContext(both))
	})
}

// newAPI answers what the page and other clients ask for. The middleware makes
// each request one unit of work: a status under 400 commits it before the client
// sees the answer, any other undoes it. Nothing below says commit or rollback.
func newAPI(db *sqlscope.DB) http.Handler {
	shop := NewShop(db)
	a := api{shop}
	// What comes again with the same key is done once, and has the same answer.
	// Who places orders is not known here, and so a key means the same for all.
	keyed := idempotent.Middleware(db, idempotent.Anybody, idempotent.Refuse(refuse))
	mux := http.NewServeMux()
	mux.Handle("POST /orders", keyed(handler(a.place)))
	mux.Handle("GET /orders", handler(a.list))
	mux.Handle("GET /orders/{id}", handler(a.show))
	mux.Handle("POST /orders/{id}/cancel", handler(a.cancel))
	mux.Handle("POST /imports", keyed(handler(a.importCSV)))
	mux.Handle("GET /stock", handler(a.stock))
	addTrouble(mux, shop, db)
	unit := httpscope.Middleware(
		// On SQLite a read-only scope takes no write lock, see openSQLite; in a
		// cluster it goes to a replica.
		httpscope.ReadOnlySafeMethods(),
		// There a client that has placed an order finds it, however far the
		// replicas are behind. Behind TLS the cookie would be Secure, too.
		httpscope.TokenCookie(http.Cookie{Name: "written"}),
		httpscope.FailurePage(commitFailed),
	)
	return limit(unit(mux))
}

// limit gives a request's statements a deadline. It does not end a commit.
func limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// commitFailed answers instead of a handler whose work could not be committed.
// httpscope has logged why.
func commitFailed(w http.ResponseWriter, _ *http.Request, err error) {
	p := problem{Error: internalError}
	if errors.Is(err, dbscope.ErrCommitUnknown) {
		p.Error = "the order may or may not have been stored: repeat it with its key, or look first"
	}
	_ = writeJSON(w, http.StatusInternalServerError, p) // it can always be encoded
}

// refuse answers a request whose key says that it is not to be served.
func refuse(w http.ResponseWriter, _ *http.Request, p idempotent.Problem) {
	_ = writeJSON(w, p.Status, problem{Error: p.Title}) // it can always be encoded
}

// handler is an [http.Handler] that may fail. The answer to an error has a
// status of 400 or more, which undoes the request's work.
type handler func(http.ResponseWriter, *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil {
		return
	}
	p := problem{Error: err.Error()}
	status := statusOf(err)
	if status >= http.StatusInternalServerError {
		if !errors.Is(r.Context().Err(), context.Canceled) { // else the client has given up, and nothing is wrong here
			slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		p.Error = internalError
		if status == http.StatusServiceUnavailable {
			p.Error = "try again later"
		}
	}
	var bad *LineError
	if errors.As(err, &bad) {
		p.Line = bad.Line
	}
	_ = writeJSON(w, status, p) // it can always be encoded
}

// internalError is all a client hears of what is not its business.
const internalError = "internal error"

// problem is the body of an error's answer.
type problem struct {
	Error string `json:"error"`
	Line  int    `json:"line,omitempty"` // of an import
}

func statusOf(err error) int {
	switch {
	case errors.As(err, new(*http.MaxBytesError)), errors.Is(err, ErrTooLong):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBadRequest):
		return http.StatusBadRequest
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrOutOfStock), errors.Is(err, ErrAlreadyCancelled):
		return http.StatusConflict
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrUnknownSKU):
		return http.StatusUnprocessableEntity
	case errors.Is(err, cluster.ErrNoPrimary), errors.Is(err, cluster.ErrSplitBrain), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

type api struct{ shop *Shop }

func (a api) place(w http.ResponseWriter, r *http.Request) error {
	var wish Wish
	if err := readJSON(w, r, &wish); err != nil {
		return err
	}
	o, err := a.shop.Place(r.Context(), wish)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/orders/"+o.ID)
	return writeJSON(w, http.StatusCreated, o)
}

func (a api) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit := defaultPage
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return fmt.Errorf("%w: limit must be 1 to %d", errBadRequest, maxPage)
		}
		limit = n
	}
	orders, err := a.shop.List(r.Context(), q.Get("before"), limit)
	if err != nil {
		return err
	}
	page := page{Orders: orders}
	if len(orders) == limit {
		next := url.Values{"limit": {strconv.Itoa(limit)}, "before": {orders[limit-1].ID}}
		page.Next = "/orders?" + next.Encode()
	}
	return writeJSON(w, http.StatusOK, page)
}

// page is a part of the list, and where the next one is.
type page struct {
	Orders []Order `json:"orders"`
	Next   string  `json:"next,omitempty"`
}

func (a api) show(w http.ResponseWriter, r *http.Request) error {
	o, events, err := a.shop.Show(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, orderWithEvents{o, events})
}

type orderWithEvents struct {
	Order
	Events []Event `json:"events"`
}

func (a api) cancel(w http.ResponseWriter, r *http.Request) error {
	o, err := a.shop.Cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, o)
}

func (a api) importCSV(w http.ResponseWriter, r *http.Request) error {
	n, err := a.shop.Import(r.Context(), http.MaxBytesReader(w, r.Body, maxImportBytes))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]int{"imported": n})
}

func (a api) stock(w http.ResponseWriter, r *http.Request) error {
	all, err := a.shop.Stock(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, all)
}

// errBadRequest is the error of a request that cannot be understood.
var errBadRequest = errors.New("bad request")

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSONBytes))
	in.DisallowUnknownFields()
	if err := in.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON value", errBadRequest)
	}
	return nil
}

// writeJSON fails only before it has written anything.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	var body bytes.Buffer
	out := json.NewEncoder(&body)
	out.SetEscapeHTML(false) // the URLs in it stay readable
	if err := out.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a client that is gone misses its answer, no more
	return nil
}
