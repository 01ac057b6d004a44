package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// cutAnywhere is a connection whose bytes arrive in pieces of any size, as over
// a network.
type cutAnywhere struct{ net.Conn }

// canBeLookedAt is one whose socket dbscope can look at.
type canBeLookedAt struct {
	cutAnywhere
	syscall.Conn
}

func (c cutAnywhere) Read(b []byte) (int, error) {
	if rand.N(2) == 0 {
		b = b[:min(len(b), 1+rand.N(40))]
	}
	return c.Conn.Read(b)
}

// A pooled connection may listen, and then the server sends notifications
// whenever it is idle: whole or in parts, with the answer to COMMIT or with that
// to the next unit's BEGIN. Each byte that a message can begin with is among the
// payloads.
func TestAUnitOnAConnectionThatListensIsAsAnyOther(t *testing.T) {
	units := 400
	if os.Getenv("DBSCOPE_LONG") != "" {
		units = 2000 // in each of five modes
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			var heard atomic.Int64
			dsn := createDatabase(t)
			d := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
				config, err := pgxpool.ParseConfig(dsn)
				if err != nil {
					return nil, err
				}
				config.MaxConns, config.MaxConnLifetime = 2, time.Second/4
				config.ConnConfig.DefaultQueryExecMode = mode
				config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := (&net.Dialer{}).DialContext(ctx, network, address)
					if tcp, ok := c.(*net.TCPConn); ok && rand.N(2) == 0 {
						return canBeLookedAt{cutAnywhere{c}, tcp}, err
					}
					return cutAnywhere{c}, err
				}
				config.ConnConfig.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
					if n.Channel == "news" && strings.HasSuffix(n.Payload, "end") {
						heard.Add(1)
					}
				}
				config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
					_, err := c.Exec(ctx, "LISTEN news")
					return err
				}
				pgxscope.Configure(config)
				return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
			}, dbscope.Name("test"))
			t.Cleanup(func() { ok(t, d.Close()) })
			stop := notify(t, dsn)
			defer stop()
			failures := 0
			for i := 0; i < units || heard.Load() == 0 && i < 100*units; i++ { // whoever notifies may come late
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					var got int
					switch i % 3 {
					case 0:
						if err := d.QueryRow(ctx, "SELECT 42").Scan(&got); err != nil {
							return err
						}
					case 1:
						if err := d.QueryRow(ctx, "SELECT $1::int", 42).Scan(&got); err != nil {
							return err
						}
					default:
						if _, err := d.Exec(ctx, "SELECT 1"); err != nil { // which is a simple query
							return err
						}
						nested, err := (&handle{d}).Begin(ctx)
						if err != nil {
							return err
						}
						if err := errors.Join(nested.QueryRow(ctx, "SELECT 42").Scan(&got), nested.Commit(ctx)); err != nil {
							return err
						}
					}
					if got != 42 {
						return fmt.Errorf("the answer is %d", got)
					}
					return nil
				})
				if err != nil {
					if failures++; failures < 5 {
						t.Errorf("unit %d: %v", i, err)
					}
				}
			}
			if failures > 0 {
				t.Errorf("%d of %d units failed", failures, units)
			}
			if heard.Load() == 0 {
				t.Error("no notification was heard, so the test has shown nothing")
			}
		})
	}
}

// handle begins nested transactions of a DB's session.
type handle struct{ db *pgxscope.DB }

func (h *handle) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := h.db.Session(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

// notify sends notifications until the function it returns is called.
func notify(t *testing.T, dsn string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	conn, err := pgx.Connect(ctx, dsn)
	ok(t, err)
	go func() {
		const kinds = "123ACDEGHIKNRSTVWZcdnstv"
		var err error
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			payload := strings.Repeat(kinds[i%len(kinds):i%len(kinds)+1], 1+rand.N(200)) + "end"
			_, err = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_notify('news', $1)", payload)
		}
		done <- err
	}()
	return func() {
		cancel()
		ok(t, <-done)
		ok(t, conn.Close(context.WithoutCancel(ctx)))
	}
}
