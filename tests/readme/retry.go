package readme

import (
	"context"
	"database/sql"
	"net/http"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

func reserve(ctx context.Context, item string) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		return placeOrder(ctx, item)
	}, dbscope.Isolation(sql.LevelSerializable), dbscope.Retry(dbscope.RetryPolicy{}))
}

func serveAgain() error {
	again := httpscope.Retry(dbscope.RetryPolicy{Attempts: 3}, 1<<20) // keeps bodies of up to 1 MiB in memory
	return http.ListenAndServe("127.0.0.1:8080", httpscope.Middleware(again)(http.HandlerFunc(handleOrder)))
}

// Units that read and then write wait for each other, at most ten seconds.
var stock = sqlscope.Open("sqlite", "file:stock.db?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")

var _, _, _ = reserve, serveAgain, stock
