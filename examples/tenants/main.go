// Tenants is a small service for many customers on one table: each transaction
// begins with the tenant that the request's context names, and row-level security
// does the rest.
//
//	go run ./examples/tenants
//	DATABASE_URL=postgres://postgres@localhost/notes go run ./examples/tenants
//	go run ./examples/tenants -addr 127.0.0.1:8080
//
// It shows what two tenants see of each other, and what happens where somebody has
// forgotten the tenant. Row-level security is PostgreSQL's: without DATABASE_URL a
// server of its own is started, where PostgreSQL is installed, and removed at the end.
// The user of DATABASE_URL must be allowed to create a role and a table, which are
// called tenants_example. With -addr it goes on to serve.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/internal/pgtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // some requests are meant to fail
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("tenants", flag.ContinueOnError)
	addr := flags.String("addr", "", "address to listen on afterwards, until Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return err
	}
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		server, err := pgtest.StartFor()
		if err != nil {
			return fmt.Errorf("this example needs PostgreSQL: set DATABASE_URL, or install it: %w", err)
		}
		defer func() { _ = server.Remove() }() // a temporary directory at most
		url = server.DSN("postgres")
	}
	if err := createSchema(ctx, url); err != nil {
		return fmt.Errorf("creating the schema: %w", err)
	}
	s := openService(url)
	defer func() { err = errors.Join(err, s.db.Close()) }()
	if err := show(ctx, out, s); err != nil || *addr == "" {
		return err
	}
	return serve(ctx, out, *addr, s.handler())
}

func serve(ctx context.Context, out io.Writer, addr string, h http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, help, "http://"+listener.Addr().String()) // nobody reads it: no harm done
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const help = `
Try, in another terminal; a real service takes the tenant from a session or a token:

  curl -H 'Tenant: ada' %[1]s/notes -d 'buy tea'
  curl -H 'Tenant: ada' %[1]s/notes
  curl -H 'Tenant: bob' %[1]s/notes
  curl -i %[1]s/notes
`
