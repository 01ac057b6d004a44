package fiberscope_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
)

func TestFibersContextIsRefusedInThePlaceOfTheRequests(t *testing.T) {
	s := newSite(t)
	db := s.fake.DB(dbscope.AllowUnscoped()) // it would be stored whatever becomes of the request
	s.serve(func(c fiber.Ctx) error {
		for name, err := range map[string]error{
			"a statement":              drivertest.Exec(c, s.db, "a"),
			"without need for a scope": drivertest.Exec(c, db, "a"),
			"derived":                  drivertest.Exec(context.WithoutCancel(c), db, "a"),
			"the RequestCtx":           drivertest.Exec(c.RequestCtx(), db, "a"),
			"a hook":                   dbscope.AfterCommit(c, func(context.Context) error { return nil }),
			"MarkRollback":             dbscope.MarkRollback(c),
			"Atomic":                   db.Atomic(c, func(context.Context) error { t.Error("it ran"); return nil }),
			"Join":                     dbscope.Join(c, func(context.Context) error { t.Error("it ran"); return nil }),
		} {
			if !errors.Is(err, dbscope.ErrNoScope) || !strings.Contains(err.Error(), "pass c.Context()") {
				t.Errorf("%s: %v", name, err)
			}
		}
		return drivertest.Exec(c.Context(), s.db, "b")
	})
	s.response("GET")
	s.wantRows("b")
}
