package wire_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// bench is a database with a table t, and a proxy in front of it.
type bench struct {
	*wire.Proxy
	t      *testing.T
	server *pgtest.Server
	dsn    string // without the proxy
}

func newBench(t *testing.T) *bench {
	server := pgtest.Shared(t)
	b := &bench{t: t, server: server, dsn: server.CreateDatabase(t)}
	server.Query(t, b.dsn, "create table t (id int)")
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	b.Proxy = wire.Start(t, u.Host)
	return b
}

func (b *bench) rows() string { return b.server.Query(b.t, b.dsn, "select count(*) from t") }

func (b *bench) connect(mode pgx.QueryExecMode) *pgx.Conn {
	b.t.Helper()
	config, err := pgx.ParseConfig(b.DSN(b.dsn))
	if err != nil {
		b.t.Fatal(err)
	}
	config.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.t.Context())) }) // it may be cut
	return conn
}

// frontend is a client that says what it is told to, a Write at a time.
func (b *bench) frontend() *pgproto3.Frontend {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	f := pgproto3.NewFrontend(conn, conn)
	u, err := url.Parse(b.dsn)
	if err != nil {
		b.t.Fatal(err)
	}
	b.say(f, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": u.User.Username(), "database": strings.TrimPrefix(u.Path, "/"),
	}})
	b.hear(f, "ReadyForQuery")
	return f
}

func (b *bench) say(f *pgproto3.Frontend, messages ...pgproto3.FrontendMessage) {
	b.t.Helper()
	for _, m := range messages {
		f.Send(m)
	}
	if err := f.Flush(); err != nil {
		b.t.Fatal(err)
	}
}

// hear reads up to a message.
func (b *bench) hear(f *pgproto3.Frontend, name string) {
	b.t.Helper()
	for {
		m, err := f.Receive()
		if err != nil {
			b.t.Fatal(err)
		}
		switch m.(type) {
		case *pgproto3.ReadyForQuery:
			if name == "ReadyForQuery" {
				return
			}
		case *pgproto3.BindComplete:
			if name == "BindComplete" {
				return
			}
		case *pgproto3.NoData:
			if name == "NoData" {
				return
			}
		case *pgproto3.CommandComplete:
			if name == "CommandComplete" {
				return
			}
		}
	}
}

// expect compares the turns since the last time.
func (b *bench) expect(turns int) {
	b.t.Helper()
	if n := b.RoundTrips(); n != turns {
		b.t.Fatalf("%d turns, not %d", n, turns)
	}
	b.Reset()
}

// each repeats something and expects so many turns of it each time, but for the
// first, which may prepare statements.
func (b *bench) each(repetitions, turns int, do func()) {
	b.t.Helper()
	do()
	b.Reset()
	for range repetitions {
		do()
		b.expect(turns)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

var modes = map[string]pgx.QueryExecMode{
	"cache_statement": pgx.QueryExecModeCacheStatement,
	"cache_describe":  pgx.QueryExecModeCacheDescribe,
	"describe_exec":   pgx.QueryExecModeDescribeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple_protocol": pgx.QueryExecModeSimpleProtocol,
}
