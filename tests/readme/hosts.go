package readme

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var till = pgxscope.Open("postgres://app@{host}/till?connect_timeout=2", dbscope.Host("10.0.0.1:5432"))

// moveTo is for whoever learns that the database has moved.
func moveTo(ctx context.Context, host string) error {
	return till.SwitchHost(ctx, host) // an error: the host does not answer, and all stays as it was
}

// openMoving opens a database of which another service knows where it is.
func openMoving(ask func(context.Context) (host string, err error)) *pgxscope.DB {
	var db *pgxscope.DB
	db = pgxscope.Open("postgres://app@{host}/till?connect_timeout=2", dbscope.BeforeSession(func(ctx context.Context) error {
		host, err := ask(ctx) // before each session: it should remember what it was told
		if err != nil {
			return err
		}
		return db.SwitchHost(ctx, host) // nothing, where it is that host already
	}))
	return db
}

var nodes = cluster.New(cluster.List("10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.3:5432"))

var depot = pgxscope.Open("postgres://app@{host}/depot?connect_timeout=2", dbscope.Router(nodes))

func inDepot(ctx context.Context, item string) (n int, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		return depot.QueryRow(ctx, `SELECT n FROM stock WHERE item = $1`, item).Scan(&n)
	}, dbscope.ReadOnly()) // on a replica
	return n, err
}

func depotSite(mux http.Handler) http.Handler {
	return httpscope.Middleware(
		httpscope.ReadOnlySafeMethods(), // GET may read from a replica
		httpscope.TokenCookie(http.Cookie{Name: "written", Secure: true}),
	)(mux)
}

// newNodes gets keys of 32 random bytes, the same in all processes.
func newNodes(keys ...[]byte) *cluster.Cluster {
	return cluster.New(cluster.List("10.0.0.1:5432", "10.0.0.2:5432"), cluster.SignedBy(keys...))
}

// Packing is a job, and goes through a queue.
type Packing struct {
	Order   int64
	Written string
}

// order stores an order, and queues its job once the order can be read.
func order(ctx context.Context, db *pgxscope.DB, item string, queue func(Packing) error) error {
	var id int64
	err := db.QueryRow(ctx, `INSERT INTO orders (item) VALUES ($1) RETURNING id`, item).Scan(&id)
	if err != nil {
		return err
	}
	return db.AfterCommit(ctx, func(ctx context.Context) error {
		return queue(Packing{id, dbscope.WritesToken(ctx)})
	})
}

// pack reads the order from a replica that has it.
func pack(ctx context.Context, db *pgxscope.DB, job Packing) (item string, err error) {
	ctx = dbscope.ReadYourWrites(ctx, job.Written)
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		return db.QueryRow(ctx, `SELECT item FROM orders WHERE id = $1`, job.Order).Scan(&item)
	}, dbscope.ReadOnly())
	return item, err
}

// takeOrder is a unit outside a middleware, which would do the first line.
func takeOrder(ctx context.Context, db *pgxscope.DB, item string, queue func(Packing) error) error {
	ctx = dbscope.ReadYourWrites(ctx, "")
	return dbscope.Run(ctx, func(ctx context.Context) error { return order(ctx, db, item, queue) })
}

func showNodes(w http.ResponseWriter, _ *http.Request) {
	if depot.Host() == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	for _, n := range nodes.Nodes() {
		_, _ = fmt.Fprintln(w, n.Host, "primary", n.Primary, "serves reads", n.Fresh, "behind", n.Lag, "seen", n.Seen, n.Err)
	}
}

// openWatchful opens a database that notices within ten seconds when a machine
// is gone from whose server it awaits an answer.
func openWatchful(nodes *cluster.Cluster) *pgxscope.DB {
	dialer := &net.Dialer{
		Timeout:         2 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5},
	}
	return pgxscope.New(func(ctx context.Context, host string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig("postgres://app@" + host + "/depot?connect_timeout=2")
		if err != nil {
			return nil, err
		}
		config.ConnConfig.DialFunc = dialer.DialContext
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Router(nodes))
}

// Two names, each of which may stand for several servers: two databases.
var (
	writing = pgxscope.Open("postgres://app@shop.cluster-x.example/shop")
	reading = pgxscope.Open("postgres://app@shop.cluster-ro-x.example/shop")
)

var _, _, _, _, _, _, _ = moveTo, openMoving, inDepot, newNodes, depotSite, pack, takeOrder

var _, _, _, _ = showNodes, openWatchful, writing, reading
