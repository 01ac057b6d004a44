package wire_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope/tests/wire"
)

var moments = []wire.When{wire.Before, wire.During, wire.After}

func TestACommitThatIsCutIsStoredOnlyIfTheServerGotTheWholeOfIt(t *testing.T) {
	b := newBench(t)
	for _, when := range moments {
		for range 5 {
			b.server.Query(t, b.dsn, "truncate t")
			conn := b.connect(pgx.QueryExecModeCacheStatement)
			tx := must[pgx.Tx](t)(conn.Begin(t.Context()))
			must[pgconn.CommandTag](t)(tx.Exec(t.Context(), "insert into t (id) values ($1)", 1))
			b.Cut(wire.CutAt{Message: "Query", Containing: "commit", When: when})
			if err := tx.Commit(t.Context()); err == nil {
				t.Errorf("%v: the client saw no error", when)
			}
			expected := map[wire.When]string{wire.Before: "0", wire.During: "0", wire.After: "1"}[when]
			if got := b.rows(); got != expected {
				t.Errorf("%v: %s rows, not %s", when, got, expected)
			}
			if !conn.IsClosed() {
				t.Errorf("%v: the connection is open", when)
			}
		}
	}
}

func TestAStatementIsStoredIfItsSyncReachedTheServer(t *testing.T) {
	const insert = "insert into t (id) values ($1)"
	never, sent, always := []string{"0", "0", "0"}, []string{"0", "0", "1"}, []string{"1", "1", "1"}
	messages := map[string][]string{
		"Parse": never, "Bind": never, "Execute": never, "Sync": sent,
		"ParseComplete": always, "BindComplete": always, "CommandComplete": always, "ReadyForQuery": always,
	}
	b := newBench(t)
	for name, expected := range messages {
		for _, when := range moments {
			b.server.Query(t, b.dsn, "truncate t")
			b.Reset()
			conn := b.connect(pgx.QueryExecModeExec)
			at := wire.CutAt{Message: name, When: when}
			switch name {
			case "Parse", "Bind", "Execute", "Sync":
				at.Containing = "insert"
			case "CommandComplete":
				at.Containing = "INSERT 0 1"
			}
			b.Cut(at)
			_, err := conn.Exec(t.Context(), insert, 1)
			if lost := name != "ReadyForQuery" || when != wire.After; lost != (err != nil) {
				t.Errorf("%v %s: the client saw the error %v", when, name, err)
			}
			if got := b.rows(); got != expected[when] {
				t.Errorf("%v %s: %s rows, not %s", when, name, got, expected[when])
			}
			if _, err := conn.Exec(t.Context(), insert, 1); err == nil {
				t.Errorf("%v %s: the connection still works", when, name)
			}
			if b.Cuts() != 1 {
				t.Errorf("%v %s: %d cuts", when, name, b.Cuts())
			}
		}
	}
}

func TestAMessageOfACachedStatementIsFoundByItsText(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"Bind", "Execute", "Sync"} {
		conn := b.connect(pgx.QueryExecModeCacheStatement)
		for _, sql := range []string{"select $1::int", "select $1::text"} {
			must[pgconn.CommandTag](t)(conn.Exec(t.Context(), sql, "1"))
		}
		b.Cut(wire.CutAt{Message: name, Containing: "::text"})
		must[pgconn.CommandTag](t)(conn.Exec(t.Context(), "select $1::int", "1"))
		if _, err := conn.Exec(t.Context(), "select $1::text", "1"); err == nil {
			t.Errorf("%s was not cut", name)
		}
		if log := b.Messages(); !slices.ContainsFunc(log, func(line string) bool {
			return strings.Contains(line, "! cut before > "+name)
		}) {
			t.Errorf("%q does not tell", log)
		}
	}
}

func TestACopyThatIsCutIsStoredOnlyIfItsEndReachedTheServer(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"CopyInResponse", "CopyData", "CopyDone", "CommandComplete"} {
		for _, when := range moments {
			b.server.Query(t, b.dsn, "truncate t")
			conn := b.connect(pgx.QueryExecModeExec)
			b.Reset()
			b.Cut(wire.CutAt{Message: name, When: when})
			_, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader("1\n"), "copy t from stdin")
			if err == nil {
				t.Errorf("%v %s: the client saw no error", when, name)
			}
			rows := b.rows()
			switch {
			case name == "CopyInResponse": // a client that does not wait for it may be done or not
			case (rows == "1") != (name == "CommandComplete" || name == "CopyDone" && when == wire.After):
				t.Errorf("%v %s: %s rows", when, name, rows)
			}
			if b.Cuts() != 1 {
				t.Errorf("%v %s: %d cuts", when, name, b.Cuts())
			}
		}
	}
}

func TestACutIsUsedUpAfterItsTimes(t *testing.T) {
	b := newBench(t)
	b.Cut(wire.CutAt{Message: "Query", Containing: "one", Times: 2})
	b.Cut(wire.CutAt{Message: "Query", Containing: "two"})
	for i, expected := range []bool{false, false, true, true} {
		_, err := b.connect(pgx.QueryExecModeExec).Exec(t.Context(), "select 'one'")
		if (err == nil) != expected {
			t.Errorf("time %d: %v", i, err)
		}
	}
	if _, err := b.connect(pgx.QueryExecModeExec).Exec(t.Context(), "select 'two'"); err == nil {
		t.Error("the second cut was forgotten")
	}
	if b.Cuts() != 3 {
		t.Errorf("%d cuts", b.Cuts())
	}
}

func TestAConnectionCanBeCutWhileItStarts(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"StartupMessage", "Authentication", "ReadyForQuery"} {
		for _, when := range moments[:2] {
			b.Cut(wire.CutAt{Message: name, When: when})
			conn, err := pgx.Connect(t.Context(), b.DSN(b.dsn))
			if err == nil {
				t.Errorf("%v %s: connected", when, name)
				_ = conn.Close(t.Context())
			}
		}
	}
}

func TestCloseAllCutsWhatIsOpenAndNothingElse(t *testing.T) {
	b := newBench(t)
	idle, busy := b.connect(pgx.QueryExecModeExec), b.connect(pgx.QueryExecModeExec)
	failed := make(chan error)
	go func() {
		_, err := busy.Exec(t.Context(), "select pg_sleep(3600) /* in vain */")
		failed <- err
	}()
	for b.server.Query(t, b.dsn, "select count(*) from pg_stat_activity where query like '%in vain%'") != "2" {
	}
	b.CloseAll()
	if <-failed == nil {
		t.Error("the running statement goes on")
	}
	if _, err := idle.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the idle connection works")
	}
	must[pgconn.CommandTag](t)(b.connect(pgx.QueryExecModeExec).Exec(t.Context(), "select 1"))
}

func TestADeadServerIsAClosedConnection(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec)
	if _, err := conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())"); err == nil {
		t.Error("the client saw no error")
	}
	unreachable := wire.Start(t, "127.0.0.1:1")
	if conn, err := pgx.Connect(t.Context(), unreachable.DSN(b.dsn)); err == nil {
		t.Error("connected to nothing")
		_ = conn.Close(t.Context())
	}
}
