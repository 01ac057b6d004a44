package readme

import (
	"context"
	"net/http"
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

// Nothing that a request does with a database takes longer than d.
func deadline(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
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

var _, _, _, _, _ = tidy, openCancelling, impatient, deadline, listen
