package readme

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// No unit meets what another one has left on its connection.
var tidy = pgxscope.Open("postgres://app@127.0.0.1/shop", dbscope.ResetConnections())

// A statement whose context ends is cancelled, and its connection is used again.
func openCancelling(connString string) *pgxscope.DB {
	return pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(connString)
		if err != nil {
			return nil, err
		}
		config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
		}
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	})
}

// Statements of the unit that take longer than five seconds are cancelled.
func impatient(ctx context.Context) error {
	_, err := orders.Exec(ctx, "SET LOCAL statement_timeout = '5s'")
	return err
}

// It returns when ctx is done.
func listen(ctx context.Context, each func(*pgconn.Notification)) error {
	pool, err := orders.Pool(ctx)
	if err != nil {
		return err
	}
	pooled, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // the pool does not get it back
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN orders"); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		each(n)
	}
}

var _, _, _, _ = impatient, listen, tidy, openCancelling
