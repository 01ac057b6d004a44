package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
)

// show prints what happens, with the service as its clients see it and then from
// inside.
func show(ctx context.Context, out io.Writer, s service) error {
	p := printer{out: out, handler: s.handler()}
	p.say("Two tenants, one table:")
	p.request(ctx, "ada", http.MethodPost, "buy tea")
	p.request(ctx, "bob", http.MethodPost, "sell tea")
	p.request(ctx, "ada", http.MethodGet, "")
	p.request(ctx, "bob", http.MethodGet, "")

	p.say("\nThe tenant was forgotten: no statement runs, and no connection is taken:")
	p.request(ctx, "", http.MethodGet, "")
	p.request(ctx, "", http.MethodPost, "whose?")
	p.result("a job", dbscope.Run(ctx, func(ctx context.Context) error { return s.add(ctx, "whose?") }))
	p.result("a job that ignores the error", dbscope.Run(ctx, func(ctx context.Context) error {
		_ = s.add(ctx, "whose?")
		return nil
	}))

	p.say("\nA statement that is past the units, on the pool, has no tenant either, and sees nothing:")
	n, err := s.countOnThePool(ctx)
	if err != nil {
		return err
	}
	p.say("  %d notes", n)

	p.say("\nA row in another's name, and a value that would like to be SQL:")
	p.result("bob forges", dbscope.Run(withTenant(ctx, "bob"), func(ctx context.Context) error {
		_, err := s.db.Exec(ctx, "INSERT INTO tenants_example (tenant, text) VALUES ('ada', 'sell everything')")
		return err
	}))
	p.request(ctx, "ada', true), set_config('role', 'none", http.MethodGet, "")

	p.say("\nEach transaction of a unit has its own, whoever begins it:")
	p.result("ada's unit", dbscope.Run(withTenant(ctx, "ada"), func(ctx context.Context) error {
		notes, err := s.list(ctx)
		p.say("  at first               %q", notes)
		if err = errors.Join(err, s.db.Commit(ctx)); err != nil {
			return err
		}
		notes, err = s.list(ctx)
		p.say("  after an early commit  %q", notes)
		return errors.Join(err, s.db.Detached(withTenant(ctx, "bob"), func(ctx context.Context, _ pgx.Tx) error {
			notes, err := s.list(ctx)
			p.say("  in bob's name          %q", notes)
			return err
		}))
	}))
	return p.err
}

// countOnThePool is what a library would do that was given the pool, with the role of
// the application.
func (s service) countOnThePool(ctx context.Context) (n int, err error) {
	pool, err := s.db.Pool(ctx)
	if err != nil {
		return 0, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE tenants_example"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM tenants_example").Scan(&n)
	})
	return n, err
}

type printer struct {
	out     io.Writer
	handler http.Handler
	err     error
}

func (p *printer) say(format string, args ...any) {
	_, err := fmt.Fprintf(p.out, format+"\n", args...)
	p.err = errors.Join(p.err, err)
}

func (p *printer) result(what string, err error) {
	if err == nil {
		p.say("  %s: done", what)
	} else {
		p.say("  %s: %v", what, err)
	}
}

// request asks the service, and prints its answer.
func (p *printer) request(ctx context.Context, tenant, method, body string) {
	r := httptest.NewRequestWithContext(ctx, method, "/notes", strings.NewReader(body))
	if tenant != "" {
		r.Header.Set("Tenant", tenant)
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	p.say("  %-4s %-8s as %q: %d %s", method, body, tenant, w.Code, strings.Join(lines, ", "))
}
