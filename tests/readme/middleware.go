package readme

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/logger"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/middleware"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func serveMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", handleOrder)
	return httpscope.Middleware()(mux)
}

func chiRouter() http.Handler {
	r := chi.NewRouter()
	r.Use(chimiddleware.Logger, chimiddleware.Recoverer, chimiddleware.Compress(5))
	r.Get("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r.Group(func(r chi.Router) {
		r.Use(httpscope.Middleware(httpscope.ReadOnlySafeMethods()))
		r.Post("/orders", handleOrder)
	})
	return r
}

func fiberApp() *fiber.App {
	app := fiber.New()
	app.Use(logger.New(), recover.New(), fiberscope.Middleware())
	app.Post("/orders", func(c fiber.Ctx) error {
		if err := placeOrder(c.Context(), c.FormValue("item")); err != nil { // c.Context(), not c
			return fiber.NewError(fiber.StatusConflict, "cannot order") // an error: rolled back
		}
		return c.SendStatus(fiber.StatusCreated) // sent after the commit
	})
	return app
}

func patient(mux http.Handler) http.Handler {
	return httpscope.Middleware(
		httpscope.BufferBody(1<<20),             // a body is there, whole, before the unit begins
		httpscope.ClientTimeout(10*time.Second), // for what is left: long answers, and bodies that are not buffered
	)(mux)
}

// Refused is an error whose text is written for clients.
type Refused struct{ Why string }

func (r *Refused) Error() string { return r.Why }

func frankly() fiber.Handler {
	return fiberscope.Middleware(fiberscope.ShowErrors(func(err error) bool {
		var refused *Refused
		return errors.As(err, &refused)
	}))
}

func readYourWrites(mux http.Handler) http.Handler {
	return httpscope.Middleware(
		httpscope.ReadOnlySafeMethods(), // GET may read from a replica
		httpscope.TokenCookie(http.Cookie{Name: "__Host-writes", Secure: true}),
		httpscope.TokenHeader("X-Writes"), // for clients without cookies
	)(mux)
}

// Answer is what a handler of your framework returns, which then sends it.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Handler is your framework's.
type Handler func(r *http.Request) (Answer, error)

// Scoped runs each request in a scope of its own.
func Scoped(next Handler, onError func(r *http.Request, err error)) Handler {
	policy := &middleware.Policy[*http.Request]{OnError: onError}
	return func(r *http.Request) (Answer, error) {
		if !policy.Scoped(r.Context(), r) { // a scope that is there already stays in charge
			return next(r)
		}
		ctx, scope := policy.Begin(r.Context(), r,
			dbscope.OnHookError(func(_ context.Context, err error) { policy.Report(r, err) }))
		r = r.WithContext(ctx)
		// Undoes what is not committed, also when next panics. No recover: the stack stays whole.
		defer func() { policy.Report(r, scope.End(ctx)) }()
		answer, err := next(r)
		if err == nil {
			err = policy.Finish(ctx, scope, r, answer.Status)
		}
		if err != nil { // the client gets nothing of the answer, nor of the driver's words
			policy.Report(r, err)
			return Answer{}, middleware.Masked(err, http.StatusInternalServerError, "internal server error")
		}
		return answer, nil // sent after the commit
	}
}

// logFailure is an onError that does for a start.
func logFailure(r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "a unit of work did not end as it should", "error", err)
}

var _, _, _, _, _, _, _ = serveMux, chiRouter, fiberApp, patient, frankly, readYourWrites, logFailure
