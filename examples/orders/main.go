// Orders is a small service on dbscope: its functions take a context and
// nothing else, and every request is one transaction.
//
//	go run ./examples/orders
//	DATABASE_URL=postgres://user@localhost/shop go run ./examples/orders
//	HOSTS=10.0.0.1:5432,10.0.0.2:5432 DATABASE_URL=postgres://user@{host}/shop go run ./examples/orders
//
// The third is a cluster: what writes goes to its primary, what reads to its
// replicas, and the service goes on when another host becomes the primary.
// It prints what to try, by hand and in a browser: / is a page to place, cancel
// and import orders, and /debug/dbscope/ shows what the transactions do. The parts:
// orders.go says what the service does, store.go how it is stored, http.go and
// import.go how it is asked for, page.go and page what a browser shows of it.
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
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/middleware/idempotent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("orders", "error", err)
		os.Exit(1)
	}
}

// run is main with its surroundings as arguments. It returns when ctx is done.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flags.String("db", filepath.Join(os.TempDir(), "dbscope-orders.db"), "SQLite file, where DATABASE_URL is not set")
	hosts := flags.String("hosts", os.Getenv("HOSTS"), "hosts of a cluster with commas between, for {host} in DATABASE_URL; HOSTS is the same")
	if err := flags.Parse(args); err != nil {
		return err
	}
	db, err := openDatabase(os.Getenv("DATABASE_URL"), *hosts, *file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := createSchema(ctx, db); err != nil {
		return fmt.Errorf("creating the schema: %w", err)
	}
	defer purgeKeys(ctx, db)()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, help, "http://"+listener.Addr().String()); err != nil {
		return err
	}
	return serve(ctx, listener, newHandler(ctx, db))
}

// Clients repeat a request within this time, if at all.
const keysKept = 24 * time.Hour

// purgeKeys deletes old idempotency keys each hour until it is stopped.
func purgeKeys(ctx context.Context, db *database) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var job sync.WaitGroup
	job.Go(func() {
		for tick := time.NewTicker(time.Hour); ; {
			if _, err := idempotent.Purge(ctx, db.DB, keysKept); err != nil && ctx.Err() == nil {
				slog.Error("old idempotency keys are still there", "error", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		job.Wait()
	}
}

// Requests in flight get this long to finish when the service stops.
const shutdownTimeout = 15 * time.Second

func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // an import included
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("serving", "addr", listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("stopping")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}

const help = `Open %[1]s/ in a browser, and %[1]s/debug/dbscope/ to see what its transactions do.
Or try, in another terminal:

  # place an order; the last cup can be had once, then it is 409
  curl -i %[1]s/orders -d '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i %[1]s/orders -d '{"customer": "ada", "sku": "last-cup", "quantity": 1}'
  curl -i %[1]s/orders -d '{"customer": "bob", "sku": "last-cup", "quantity": 1}'

  # the same key orders once, however often one asks; a new order needs a new key
  curl -i %[1]s/orders -H 'Idempotency-Key: "1234"' -d '{"customer": "ada", "sku": "tea", "quantity": 2}'
  curl -i %[1]s/orders -H 'Idempotency-Key: "1234"' -d '{"customer": "ada", "sku": "tea", "quantity": 2}'

  # list them, page by page, and see the stock
  curl '%[1]s/orders?limit=2'
  curl %[1]s/stock

  # show the newest with what happened to it, and cancel it (twice is 409)
  id=$(curl -s '%[1]s/orders?limit=1' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  curl %[1]s/orders/$id
  curl -i -X POST %[1]s/orders/$id/cancel

  # import 3000 orders in one transaction
  (echo customer,sku,quantity; seq 3000 | sed 's/.*/customer &,tea,1/') > good.csv
  curl -i %[1]s/imports --data-binary @good.csv

  # a bad line undoes the whole import, and is named
  (cat good.csv; echo eve,unicorn,1) > bad.csv
  curl -i %[1]s/imports --data-binary @bad.csv

`
