package pgxwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// trace is what a run has seen. Two runs of a program must have the same.
type trace struct {
	lines []string // of each statement
	heard []string // notifications, notices and parameters among its answers
}

func (t *trace) add(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// hear keeps what belongs to a statement. What comes with BEGIN and the like is
// sent to each run in its own way.
func (t *trace) hear(kind, label, payload string) {
	if tagged.MatchString(label) {
		t.heard = append(t.heard, kind+" "+label+" "+payload)
	}
}

// configure leads connections to the server.
func configure(config *pgx.ConnConfig, s *server, t *trace) {
	config.DefaultQueryExecMode = s.program.mode
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return s.dial(), nil }
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { t.hear("notification", n.Channel, n.Payload) }
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { t.hear("notice", n.Message, n.Detail) }
}

const dsn = "postgres://app@127.0.0.1/db?sslmode=disable"

// alone runs the program by hand on a connection of pgx.
func alone(ctx context.Context, s *server) (t *trace) {
	t = &trace{}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		panic(err)
	}
	configure(config, s, t)
	var conn *pgx.Conn
	for i, u := range s.program.units {
		s.begin(i)
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
				t.add("connect: %v", err)
				return t
			}
		}
		t.end(i, u, inPgx(ctx, conn, u, t))
	}
	_ = conn.Close(ctx) // it may be closed already
	return t
}

func inPgx(ctx context.Context, conn *pgx.Conn, u unit, t *trace) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if err := u.run(ctx, tx, nil, t); err != nil {
		_ = tx.Rollback(ctx) // the statement's error is the unit's
		return err
	}
	return tx.Commit(ctx)
}

// scoped runs the program through dbscope.
func scoped(ctx context.Context, s *server) (t *trace) {
	t = &trace{}
	db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn + "&pool_max_conns=1")
		if err != nil {
			return nil, err
		}
		configure(config.ConnConfig, s, t)
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	})
	for i, u := range s.program.units {
		s.begin(i)
		t.end(i, u, dbscope.Run(ctx, func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			if err != nil {
				return err
			}
			return u.run(ctx, tx, db, t)
		}, u.options()...))
	}
	if err := db.Close(); err != nil {
		t.add("close: %v", err)
	}
	return t
}

func (s *server) begin(unit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unit = unit
}

// end keeps whether a unit was committed. Why not is told by its statements. One
// whose BEGIN is refused may be committed by dbscope, of nothing, where a nested
// transaction has contained that.
func (t *trace) end(number int, u unit, err error) {
	if !u.refused {
		t.add("unit %d: committed %v", number, err == nil)
	}
}

var errUndone = errors.New("the unit is to be rolled back")

func (u unit) options() []dbscope.Option {
	if u.readOnly {
		return []dbscope.Option{dbscope.ReadOnly()}
	}
	return nil
}

// run stops at the first failure that no nested transaction contains. Where there is a
// DB, the last statement may take the commit with it.
func (u unit) run(ctx context.Context, tx pgx.Tx, db *pgxscope.DB, t *trace) error {
	if u.refused {
		t = &trace{} // by hand no statement is tried
	}
	for i, st := range u.statements {
		last := db != nil && u.execCommit && u.commit && i == len(u.statements)-1
		if last && !st.nested && (st.kind == exec || st.kind == simpleExec) {
			return st.note(t, func() (string, error) {
				if st.kind == simpleExec {
					tag, err := db.ExecCommit(ctx, st.text("1"))
					return tag.String(), err
				}
				tag, err := db.ExecCommit(ctx, st.text("$1"), "x")
				return tag.String(), err
			})
		}
		if err := st.run(ctx, tx, t); err != nil {
			return err
		}
	}
	if !u.commit {
		return errUndone
	}
	return nil
}

func (st statement) run(ctx context.Context, tx pgx.Tx, t *trace) error {
	if !st.nested {
		return st.do(ctx, tx, t)
	}
	nested, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	err = st.do(ctx, nested, t)
	switch {
	case err == nil:
		return nested.Commit(ctx)
	case st.fails == fatally: // which each of both tells with its own next call
		return err
	}
	return nested.Rollback(ctx)
}

func (st statement) do(ctx context.Context, tx pgx.Tx, t *trace) error {
	return st.note(t, func() (string, error) { return st.send(ctx, tx) })
}

func (st statement) note(t *trace, send func() (string, error)) error {
	answer, err := send()
	code := "-"
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		code = refused.Code
	case err != nil:
		code = "an error"
	}
	t.add("%s: %s, %s", st.tag, answer, code)
	return err
}

func (st statement) send(ctx context.Context, tx pgx.Tx) (answer string, err error) {
	var tag pgconn.CommandTag
	switch st.kind {
	case simpleExec:
		tag, err = tx.Exec(ctx, st.text("1"))
		return tag.String(), err
	case exec:
		tag, err = tx.Exec(ctx, st.text("$1"), "x")
		return tag.String(), err
	case query:
		rows, err := tx.Query(ctx, st.text("$1"), "x")
		if err != nil {
			return "", err
		}
		return readAll(rows)
	case queryRow:
		var v string
		err := tx.QueryRow(ctx, st.text("$1"), "x").Scan(&v)
		if errors.Is(err, pgx.ErrNoRows) {
			return "no row", nil
		}
		return v, err
	case leaveRows:
		rows, err := tx.Query(ctx, st.text("1"))
		if err != nil {
			return "", err
		}
		rows.Next()
		rows.Close()
		return rows.CommandTag().String(), rows.Err()
	case batch:
		return st.batch(ctx, tx)
	case copyFrom:
		n, err := tx.CopyFrom(ctx, pgx.Identifier{st.tag}, []string{"v"}, pgx.CopyFromRows([][]any{{"x"}}))
		return fmt.Sprint(n), err
	case prepare:
		_, err := tx.Prepare(ctx, st.tag, st.text("$1"))
		return "", err
	case badBatch:
		b := &pgx.Batch{}
		b.Queue("select $1", make(chan int))
		if tx.SendBatch(ctx, b).Close() == nil {
			return "", errors.New("a batch with a channel was sent")
		}
		return "refused", nil
	default:
		return "", tx.SendBatch(ctx, &pgx.Batch{}).Close()
	}
}

func (st statement) batch(ctx context.Context, tx pgx.Tx) (string, error) {
	b := &pgx.Batch{}
	b.Queue(st.text("$1"), "x")
	b.Queue(st.text("1"))
	results := tx.SendBatch(ctx, b)
	var all []string
	for range b.Len() {
		rows, err := results.Query()
		if err != nil {
			return strings.Join(all, ","), errors.Join(err, results.Close())
		}
		answer, err := readAll(rows)
		if all = append(all, answer); err != nil {
			return strings.Join(all, ","), errors.Join(err, results.Close())
		}
	}
	return strings.Join(all, ","), results.Close()
}

func readAll(rows pgx.Rows) (string, error) {
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(values, ",") + " " + rows.CommandTag().String(), err
}
