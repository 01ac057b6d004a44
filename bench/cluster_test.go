package bench

import (
	"context"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
)

// stub is a host that says it is a primary, or a replica.
type stub struct {
	driver.Conn // of what is not called
	row         []string
}

func (s stub) Acquire(context.Context) (driver.Conn, error)       { return s, nil }
func (s stub) Close() error                                       { return nil }
func (s stub) FirstRow(context.Context, string) ([]string, error) { return s.row, nil }
func (s stub) Release(bool)                                       {}
func openStub(_ context.Context, host string) (driver.Engine, error) {
	recovers := "t"
	if strings.HasPrefix(host, "primary") {
		recovers = "f"
	}
	return stub{row: []string{recovers, "100", "1", "77", "4711"}}, nil
}

// stubs watches a primary and two replicas.
func stubs(b *testing.B) *cluster.Cluster {
	c := cluster.New(cluster.List("primary", "replica-1", "replica-2"), cluster.SignedBy(make([]byte, 32)))
	stop := c.Use(openStub, func(string, bool) {})
	b.Cleanup(func() { must(b, stop()) })
	for {
		r, err := c.Route(b.Context(), driver.RouteRequest{ReadOnly: true})
		must(b, err)
		if fresh := c.Nodes(); r.Replica && fresh[1].Fresh && fresh[2].Fresh {
			return c
		}
	}
}

// BenchmarkRoute is the choice of a session's host.
func BenchmarkRoute(b *testing.B) {
	c := stubs(b)
	for name, need := range map[string]driver.RouteRequest{
		"write":              {},
		"read":               {ReadOnly: true},
		"read after a write": {ReadOnly: true, After: driver.Position{Timeline: 1, Number: 50}},
		"read with a token":  {ReadOnly: true, Token: c.Sign(driver.Position{Timeline: 1, Number: 50}, nil)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Route(b.Context(), need); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHosts is a unit of work on a database that does nothing: by hand
// with one host, and ours on a cluster.
func BenchmarkHosts(b *testing.B) {
	for name, opts := range map[string][]dbscope.Option{"write": nil, "read": {dbscope.ReadOnly()}} {
		b.Run(name, func(b *testing.B) {
			unit := func(opt dbscope.DBOption) func() {
				db := dbscope.New(idle{}, opt)
				b.Cleanup(func() { must(b, db.Close()) })
				gate := dbscope.Gate(db)
				return func() {
					must(b, dbscope.Run(b.Context(), func(ctx context.Context) error {
						s, err := gate.Session(ctx)
						must(b, err)
						_, err = s.Enter(ctx)
						must(b, err)
						return s.Exit(ctx, nil)
					}, opts...))
				}
			}
			compare(b, unit(dbscope.Host("one")), unit(dbscope.Router(stubs(b))))
		})
	}
}

// idle is an adapter of a database that does nothing.
type idle struct{}

func (idle) Open(context.Context, string) (driver.Engine, error) { return stub{}, nil }
func (idle) Handle(driver.Session) (struct{}, func(), error)     { return struct{}{}, nil, nil }
func (idle) Transient(error) bool                                { return false }
func (idle) WriteRefused(error) bool                             { return false }
func (stub) Begin(context.Context, driver.TxOptions) error       { return nil }
func (stub) Commit(context.Context) (driver.Outcome, error)      { return driver.Committed, nil }
func (stub) Rollback(context.Context) error                      { return nil }
