package wire_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const repetitions = 200

func TestATransactionByHandIsThreeTurns(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			conn := b.connect(mode)
			expected := 3
			if mode == pgx.QueryExecModeDescribeExec {
				expected = 4 // it asks for the description of every statement with arguments
			}
			b.each(repetitions, expected, func() {
				tx := must[pgx.Tx](t)(conn.Begin(t.Context()))
				must[pgconn.CommandTag](t)(tx.Exec(t.Context(), "insert into t (id) values ($1)", 1))
				if err := tx.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestABatchIsOneTurn(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			conn := b.connect(mode)
			expected := 1
			if mode == pgx.QueryExecModeDescribeExec {
				expected = 2
			}
			b.each(repetitions, expected, func() {
				var batch pgx.Batch
				batch.Queue("begin")
				batch.Queue("insert into t (id) values ($1)", 1)
				batch.Queue("commit")
				if err := conn.SendBatch(t.Context(), &batch).Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// The server answers the first statements of it before the client has sent the last.
func TestABatchLargerThanAllBuffersIsOneTurn(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeCacheStatement)
	b.each(10, 1, func() {
		var batch pgx.Batch
		for range 1000 {
			batch.Queue("select $1::text, repeat('x', 1000)", strings.Repeat("y", 3000))
		}
		if err := conn.SendBatch(t.Context(), &batch).Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func statement(sql string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}}
}

func TestSeveralRequestsWrittenAtOnceAreOneTurn(t *testing.T) {
	b := newBench(t)
	f := b.frontend()
	messages := slices.Concat(statement("begin"), statement("select nonsense"), statement("rollback"),
		[]pgproto3.FrontendMessage{&pgproto3.Query{String: "begin; insert into t values (1); commit"}})
	for range repetitions {
		b.say(f, messages...)
		for range 4 {
			b.hear(f, "ReadyForQuery")
		}
		b.expect(1)
	}
}

func TestRequestsSentOneAfterTheOtherWithoutWaitingAreOneTurnUnderADelay(t *testing.T) {
	b := newBench(t)
	f := b.frontend()
	b.Delay(400 * time.Millisecond)
	b.say(f, statement("select 1")...)
	b.say(f, statement("select 2")...)
	b.say(f, &pgproto3.Query{String: "select 3"})
	for range 3 {
		b.hear(f, "ReadyForQuery")
	}
	b.expect(1)
}

func TestEachFlushThatIsWaitedForIsATurn(t *testing.T) {
	b := newBench(t)
	f := b.frontend()
	for range repetitions {
		b.say(f, &pgproto3.Parse{Query: "select 1 where false"}, &pgproto3.Flush{}, &pgproto3.Bind{}, &pgproto3.Flush{})
		b.hear(f, "BindComplete")
		b.say(f, &pgproto3.Execute{}, &pgproto3.Flush{})
		b.hear(f, "CommandComplete")
		b.say(f, &pgproto3.Sync{})
		b.hear(f, "ReadyForQuery")
		b.expect(3)
	}
}

func TestAFailedRequestIsOneTurnAndDoesNotDisturbTheNext(t *testing.T) {
	b := newBench(t)
	f := b.frontend()
	for range repetitions {
		b.say(f, append([]pgproto3.FrontendMessage{
			&pgproto3.Parse{Query: "nonsense"},
			&pgproto3.Bind{}, &pgproto3.Flush{},
			&pgproto3.Query{String: "ignored up to the Sync"},
		}, statement("select 1")...)...)
		b.hear(f, "ReadyForQuery")
		b.expect(1)
		b.say(f, statement("select 1")...)
		b.hear(f, "ReadyForQuery")
		b.expect(1)
	}
}

func TestACopyIsOneTurn(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec).PgConn()
	for range repetitions {
		for _, sql := range []string{"copy t from stdin", "begin; copy t from stdin"} {
			must[pgconn.CommandTag](t)(conn.CopyFrom(t.Context(), strings.NewReader("1\n2\n"), sql))
			b.expect(1)
			must[[]*pgconn.Result](t)(conn.Exec(t.Context(), "commit").ReadAll())
			b.expect(1)
		}
	}
}

func TestConnectingAndClosingAndACancelRequestAreNoTurns(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec)
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(0)
}

func TestAServerMessageThatNobodyAskedForIsNoTurn(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec)
	must[pgconn.CommandTag](t)(conn.Exec(t.Context(), "listen news"))
	b.Reset()
	b.server.Query(t, b.dsn, "notify news")
	must[*pgconn.Notification](t)(conn.WaitForNotification(t.Context()))
	b.expect(0)
}

func TestTheLogSaysWhatPassed(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeCacheStatement)
	must[pgconn.CommandTag](t)(conn.Exec(t.Context(), "select $1::int", 1))
	b.Reset()
	must[pgx.Tx](t)(conn.Begin(t.Context()))
	must[pgconn.CommandTag](t)(conn.Exec(t.Context(), "select $1::int", 1))
	second := b.connect(pgx.QueryExecModeExec)
	must[pgconn.CommandTag](t)(second.Exec(t.Context(), "select\n  1 from generate_series(1, 3)"))
	log := slices.DeleteFunc(b.Messages(), func(line string) bool { // differs between servers
		return strings.Contains(line, "ParameterStatus")
	})
	expected := []string{
		"> Query begin", "< CommandComplete BEGIN", "< ReadyForQuery T",
		"> Bind select $1::int", "> Execute select $1::int", "> Sync",
		"< BindComplete", "< DataRow", "< CommandComplete SELECT 1", "< ReadyForQuery T",
		"[2] > StartupMessage", "[2] < Authentication", "[2] < BackendKeyData", "[2] < ReadyForQuery I",
		"[2] > Query select 1 from generate_series(1, 3)",
		"[2] < RowDescription", "[2] < DataRow x3", "[2] < CommandComplete SELECT 3", "[2] < ReadyForQuery I",
	}
	if !slices.Equal(log, expected) {
		t.Errorf("not %q", expected)
	}
}

func TestADelayIsAddedToEachTurnAndNotToEachByte(t *testing.T) {
	const delay, size = 100 * time.Millisecond, 20 << 20
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec)
	fetch := func() time.Duration {
		start := time.Now()
		var value string
		query := "select repeat('x', 1000000) from generate_series(1, " + strconv.Itoa(size/1000000) + ")"
		rows := must[pgx.Rows](t)(conn.Query(t.Context(), query))
		for rows.Next() {
			if err := rows.Scan(&value); err != nil || len(value) != 1000000 {
				t.Fatal(len(value), err)
			}
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		return time.Since(start)
	}
	plain := fetch()
	b.Delay(delay)
	if slow := fetch(); slow < delay || slow > 10*plain+10*delay {
		t.Errorf("%v, and %v without a delay of %v", slow, plain, delay)
	}
}

func TestAClientThatGoesAwayInTheMiddleOfAnAnswerLeavesNothingBehind(t *testing.T) {
	b := newBench(t)
	conn := b.connect(pgx.QueryExecModeExec)
	ctx, cancel := context.WithCancel(t.Context())
	rows := must[pgx.Rows](t)(conn.Query(ctx, "select repeat('x', 1000) from generate_series(1, 100000)"))
	rows.Next()
	cancel()
	rows.Close()
	if !conn.IsClosed() {
		t.Error("the connection is open")
	}
}
