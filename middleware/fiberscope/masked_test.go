package fiberscope_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/dbscope/dbscope/middleware/fiberscope"
)

var errShown = errors.New("sold out")

func TestAnErrorThatIsNotFibersTellsItsClientNothing(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		body   string
		told   bool // to the error hook
	}{
		"any error":                {errInjected, 500, "Internal Server Error", true},
		"fiber's own error":        {fiber.NewError(fiber.StatusConflict, "taken"), 409, "taken", false},
		"one that wraps it":        {fmt.Errorf("order 7: %w", fiber.ErrNotFound), 404, "order 7: Not Found", false},
		"an error for the clients": {errShown, 500, "sold out", false},
	} {
		for _, scoped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a unit %t", name, scoped), func(t *testing.T) {
				s := newSite(t)
				var outside error
				s.app.Use(func(c fiber.Ctx) error {
					outside = c.Next()
					return outside
				})
				s.serve(func(fiber.Ctx) error { return c.err },
					fiberscope.ShowErrors(func(err error) bool { return errors.Is(err, errShown) }),
					fiberscope.Unscoped(func(fiber.Ctx) bool { return !scoped }))
				s.want(s.response(http.MethodPost), c.status, c.body)
				if !errors.Is(outside, c.err) {
					t.Errorf("outside the error is %v", outside)
				}
				if c.told {
					s.wantErrors(c.err)
				} else {
					s.wantErrors()
				}
			})
		}
	}
}

func TestAnErrorHandlerOfTheApplicationGetsErrorsAsTheyAre(t *testing.T) {
	handler := func(c fiber.Ctx, err error) error {
		if err != errInjected { //nolint:errorlint // the very one
			t.Errorf("the error is %v", err)
		}
		return c.Status(fiber.StatusServiceUnavailable).SendString("later")
	}
	s := newSite(t, fiber.Config{ErrorHandler: handler})
	s.serve(func(fiber.Ctx) error { return errInjected })
	s.want(s.response(http.MethodPost), 503, "later")
	s.wantErrors()
}

// Outside it would hand the panic to fiber's ErrorHandler, past the middleware.
func TestAPanicThatIsRecoveredFromInsideTellsItsClientNothing(t *testing.T) {
	s := newSite(t)
	s.use()
	s.app.Use(recover.New())
	s.app.All("/*", func(c fiber.Ctx) error {
		s.store(c.Context(), "row")
		panic(errInjected)
	})
	s.url = listen(t, s.app)
	s.want(s.response(http.MethodPost), 500, "Internal Server Error")
	s.wantRows()
	s.wantErrors(errInjected)
}
