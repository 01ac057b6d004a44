package bench

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

type tenantKey struct{}

// two are a tenant from the context and a timeout.
func two(ctx context.Context) ([]dbscope.Setting, error) {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return []dbscope.Setting{{Name: "app.tenant", Value: tenant}, {Name: "statement_timeout", Value: "5s"}}, nil
}

// BenchmarkSettings is what two settings add to a unit of one statement. The client's
// part is measured with the server's answers from memory, since a process that waits
// longer also uses more CPU; the rest of what the unit takes longer is the server's.
func BenchmarkSettings(b *testing.B) {
	ctx := context.WithValue(b.Context(), tenantKey{}, "ada")
	dsn := pgtest.Shared(b).CreateDatabase(b)
	var units, replayed [2]func()
	for i, opts := range [2][]dbscope.DBOption{nil, {dbscope.Settings(two)}} {
		units[i], _ = unitOfOne(ctx, b, dsn, opts...)
		unit, network := unitOfOne(ctx, b, dsn, opts...)
		network.record(unit)
		replayed[i] = unit
	}
	var wall, client [2][]float64
	for b.Loop() {
		for range 300 {
			for i := range 2 {
				wall[i] = append(wall[i], perCall(10, units[i]))
				client[i] = append(client[i], perCall(100, replayed[i]))
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of the whole comparison, which means nothing
	longer, own := median(wall[1])-median(wall[0]), median(client[1])-median(client[0])
	b.ReportMetric(median(wall[0]), "without-ns")
	b.ReportMetric(median(wall[1]), "with-ns")
	b.ReportMetric(own, "client-ns")
	b.ReportMetric(longer-own, "server-ns")
	b.ReportMetric(testing.AllocsPerRun(200, replayed[1])-testing.AllocsPerRun(200, replayed[0]), "allocs")
}

// unitOfOne returns a unit that has run a few times, and its only connection.
func unitOfOne(ctx context.Context, b *testing.B, dsn string, opts ...dbscope.DBOption) (func(), *replay) {
	network := &replay{}
	config, err := pgxpool.ParseConfig(dsn)
	must(b, err)
	config.MaxConns = 1
	config.ConnConfig.DialFunc = func(ctx context.Context, kind, address string) (net.Conn, error) {
		var err error
		network.Conn, err = (&net.Dialer{}).DialContext(ctx, kind, address)
		return network, err
	}
	pgxscope.Configure(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(b, err)
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil }, opts...)
	b.Cleanup(func() { network.state = passes; must(b, db.Close()) })
	unit := func() {
		must(b, dbscope.Run(ctx, func(ctx context.Context) error {
			_, err := db.Exec(ctx, "SELECT $1::int", 1)
			return err
		}))
	}
	for range 3 {
		unit()
	}
	return unit, network
}

// replay is a connection that can answer each write with what the server has answered
// to the same one before.
type replay struct {
	net.Conn
	state   int
	answers [][]byte
	next    int
	left    []byte
}

// The states of replay.
const (
	passes = iota
	records
	plays
)

// record notes the answers to one unit. From then on nothing is sent any more.
func (r *replay) record(unit func()) {
	r.state = records
	unit()
	r.state = plays
}

func (r *replay) Write(p []byte) (int, error) {
	switch r.state {
	case records:
		r.answers = append(r.answers, nil)
	case plays:
		r.left = r.answers[r.next%len(r.answers)]
		r.next++
		return len(p), nil
	}
	return r.Conn.Write(p)
}

func (r *replay) Read(p []byte) (int, error) {
	if r.state == plays {
		n := copy(p, r.left)
		r.left = r.left[n:]
		return n, nil
	}
	n, err := r.Conn.Read(p)
	if last := len(r.answers) - 1; r.state == records {
		r.answers[last] = append(r.answers[last], p[:n]...)
	}
	return n, err
}

func (r *replay) SetDeadline(t time.Time) error {
	if r.state == plays {
		return nil
	}
	return r.Conn.SetDeadline(t)
}
