package dbscope

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
)

// LedgerTable is the statement that creates the table of [SettleByLedger], for
// PostgreSQL, MariaDB, MySQL and SQLite. dbscope does not run it: it belongs to the
// application's migrations.
const LedgerTable = "CREATE TABLE dbscope_ledger (id CHAR(26) PRIMARY KEY, created_at BIGINT NOT NULL)"

// SettleByStatus finds out what became of a COMMIT whose answer was lost, on
// PostgreSQL 13 and later: it asks, on another connection, for the status of
// the transaction's id, and believes it only while the server is the same one
// and has not crashed since, for ids are used again after a crash. A
// transaction that still runs on a connection that nobody reads is ended. The
// commit then succeeds or is [ErrRolledBack]; what cannot be known, as after a
// crash or a failover, and for transactions without an id, stays
// [ErrCommitUnknown].
//
// It costs a round trip before each COMMIT of a scope that may write. Settling
// takes no longer than [CommitTimeout].
func SettleByStatus() DBOption {
	return func(o *dbOptions) { o.settler = byStatus{} }
}

// SettleByLedger finds out what became of a COMMIT whose answer was lost, on
// any database: each transaction of a scope that may write puts a row with an
// id of its own into the table of [LedgerTable], and where the answer is lost
// the row is looked for on another connection. The commit then succeeds or is
// [ErrRolledBack]; it stays [ErrCommitUnknown] where the database cannot be
// reached within [CommitTimeout].
//
// It costs a round trip and a row for each transaction; see [DB.PurgeLedger].
func SettleByLedger() DBOption {
	return func(o *dbOptions) { o.settler = byLedger{} }
}

// PurgeLedger deletes the rows of [SettleByLedger] that are older than age. It
// has nothing to do with ctx's scope. Call it now and then, with an age well above
// [CommitTimeout]; a row that is gone counts as a commit that did not happen.
func (db *DB[H]) PurgeLedger(ctx context.Context, age time.Duration) error {
	before := strconv.FormatInt(time.Now().Add(-age).Unix(), 10)
	ss := newUnscoped(db.core)
	conn, err := ss.Enter(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Row(ctx, "DELETE FROM dbscope_ledger WHERE abs(created_at) < "+before)
	return ss.Exit(ctx, err)
}

// settler finds out what became of a transaction.
type settler interface {
	// witness runs before COMMIT, in the transaction. Its error prevents the
	// commit.
	witness(ctx context.Context, conn driver.Conn) (witness []string, err error)
	// verdict asks on another connection. It is asked again after an error.
	verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error)
}

// callWitness asks for what a lost COMMIT can be settled with, and breaks the session
// where it cannot have that. There is nothing to settle where a statement has
// committed the transaction: its Commit will say so. The caller has the session
// to itself.
func (s *session) callWitness(ctx context.Context) {
	if s.db.settler == nil || s.slot == nil || s.opts.tx.ReadOnly || !s.begun {
		return
	}
	if s.endedByStatement() {
		return
	}
	bounded := ending.New(ctx, s.opts.endTimeout)
	defer bounded.Cancel()
	witness, err := s.db.settler.witness(bounded, s.conn)
	if err != nil {
		err = fmt.Errorf("COMMIT was not sent: %w", err)
		fate := s.check(ctx, s.conn, err)
		s.blame(context.WithoutCancel(ctx), fate, err)
		s.failed(min(fate, driver.Aborted), err)
	}
	s.witness = witness
}

// settleUnknown asks until there is an answer or the time is over. The
// connection of the transaction has been closed.
func (s *session) settleUnknown(ctx context.Context, o Outcome, witness []string) Outcome {
	bounded := ending.New(ctx, s.opts.endTimeout)
	defer bounded.Cancel()
	state, err := s.ask(bounded, witness)
	for err != nil {
		select {
		case <-time.After(settlePause):
			state, err = s.ask(bounded, witness)
		case <-bounded.Done():
			o.Err = errs.Joined(o.Err, fmt.Errorf("dbscope: %s: it could not be settled: %w", s.db.name, err))
			return o
		}
	}
	switch state {
	case driver.Committed:
		return Outcome{DB: o.DB, State: state}
	case driver.RolledBack:
		s.lostCommit = true
		// Not wrapped as unknown any more.
		err := fmt.Errorf("dbscope: %s: %w: the answer to COMMIT was lost, and it was not done: %v", s.db.name, ErrRolledBack, o.Err) //nolint:errorlint // see above
		return Outcome{DB: o.DB, State: state, Err: err}
	}
	return o
}

// settlePause is the time between two questions.
const settlePause = 20 * time.Millisecond

func (s *session) ask(ctx context.Context, witness []string) (driver.Outcome, error) {
	engine := s.engine
	if s.db.pools.Router() != nil { // a host that writes no more knows less
		var err error
		if engine, err = s.db.pools.Engine(ctx); err != nil {
			return driver.Unknown, err
		}
	}
	conn, err := engine.Acquire(ctx)
	if err != nil {
		return driver.Unknown, err
	}
	o, err := s.db.settler.verdict(ctx, conn, witness)
	conn.Release(err == nil || errors.Is(err, errUnsettled))
	return o, err
}

// errUnsettled asks to be asked again.
var errUnsettled = errors.New("not settled yet")

// byStatus implements [SettleByStatus].
type byStatus struct{}

// The fingerprint: another server, one that was promoted, started or crashed
// since differs in one of these.
const fingerprint = "pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter), " +
	"CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END"

func (byStatus) witness(ctx context.Context, conn driver.Conn) ([]string, error) {
	row, err := conn.Row(ctx, "SELECT pg_current_xact_id_if_assigned(), pg_backend_pid(), "+fingerprint)
	if err == nil && len(row) != 5 {
		err = fmt.Errorf("got %d columns", len(row))
	}
	if err != nil {
		return nil, fmt.Errorf("SettleByStatus: asking for the transaction's id, for which it takes PostgreSQL: %w", err)
	}
	return row, nil
}

func (byStatus) verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error) {
	id, pid := witness[0], witness[1]
	if id == "" {
		return driver.Unknown, nil
	}
	row, err := conn.Row(ctx, "SELECT pg_xact_status('"+id+"'), NULL, "+fingerprint)
	if err != nil {
		return driver.Unknown, err
	}
	for i := 2; i < len(row); i++ {
		if row[i] != witness[i] {
			return driver.Unknown, nil
		}
	}
	switch row[0] {
	case "committed":
		return driver.Committed, nil
	case "aborted":
		return driver.RolledBack, nil
	case "in progress":
		// Nobody will read its answer. One that waits for a synchronous
		// standby has committed as far as the server can tell, and must wait.
		_, err := conn.Row(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = "+pid+
			" AND backend_xid::text = ('"+id+"'::text::numeric % 4294967296)::text AND wait_event IS DISTINCT FROM 'SyncRep'")
		if err == nil {
			err = errUnsettled
		}
		return driver.Unknown, err
	}
	return driver.Unknown, nil // too old to be known
}

// byLedger implements [SettleByLedger].
type byLedger struct{}

func (byLedger) witness(ctx context.Context, conn driver.Conn) ([]string, error) {
	id := rand.Text()
	if _, err := conn.Row(ctx, ledgerInsert(id, "")); err != nil {
		return nil, fmt.Errorf("SettleByLedger: writing to dbscope_ledger, the table that dbscope.LedgerTable creates: %w", err)
	}
	return []string{id}, nil
}

// ledgerInsert writes a transaction's row. The time of a row with the sign "-",
// which is not the transaction's own, is negative.
func ledgerInsert(id, sign string) string {
	return "INSERT INTO dbscope_ledger (id, created_at) VALUES ('" + id + "', " + sign + strconv.FormatInt(time.Now().Unix(), 10) + ")"
}

// verdict writes the transaction's row itself: that waits for a transaction
// that still runs, and once it is done the transaction can never come any more.
func (byLedger) verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error) {
	id := witness[0]
	if err := conn.Begin(ctx, driver.TxOptions{}); err != nil {
		return driver.Unknown, err
	}
	if _, err := conn.Row(ctx, ledgerInsert(id, "-")); err == nil {
		if _, err := conn.Commit(ctx); err != nil {
			return driver.Unknown, err
		}
		return driver.RolledBack, nil
	}
	if err := conn.Rollback(ctx); err != nil {
		return driver.Unknown, err
	}
	row, err := conn.Row(ctx, "SELECT created_at FROM dbscope_ledger WHERE id = '"+id+"'")
	switch {
	case err != nil:
		return driver.Unknown, err
	case row == nil:
		return driver.Unknown, errUnsettled // the row was refused for another reason
	case strings.HasPrefix(row[0], "-"):
		return driver.RolledBack, nil // written by an earlier question
	}
	return driver.Committed, nil
}
