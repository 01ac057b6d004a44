// Package settle finds out what became of a COMMIT whose answer was lost.
package settle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// Settler finds out what became of a transaction.
type Settler interface {
	// Witness runs before COMMIT, in the transaction; before its last statement where
	// that travels with COMMIT. Its error prevents the commit.
	Witness(ctx context.Context, conn driver.Conn, last bool) (witness []string, err error)
	// verdict asks on another connection. It is asked again after an error.
	verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error)
}

// pause is the time between two questions.
const pause = 20 * time.Millisecond

// Ask asks until there is an answer or ctx is done, with whose deadline it ends.
func Ask(ctx context.Context, s Settler, pool func(context.Context) (driver.Engine, error), witness []string) (driver.Outcome, error) {
	for {
		o, err := askOnce(ctx, s, pool, witness)
		if err == nil {
			return o, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return driver.Unknown, err
		}
	}
}

func askOnce(ctx context.Context, s Settler, pool func(context.Context) (driver.Engine, error), witness []string) (driver.Outcome, error) {
	engine, err := pool(ctx)
	if err != nil {
		return driver.Unknown, err
	}
	conn, err := engine.Acquire(ctx)
	if err != nil {
		return driver.Unknown, err
	}
	o, err := s.verdict(ctx, conn, witness)
	conn.Release(err == nil || errors.Is(err, errUnsettled))
	return o, err
}

// errUnsettled asks to be asked again.
var errUnsettled = errors.New("not settled yet")

// ByStatus asks PostgreSQL for the status of the transaction's id.
type ByStatus struct {
	hosts sync.Map // names of those that are PostgreSQL's
}

// The fingerprint: another server, one that was promoted, started or crashed
// since differs in one of these.
const fingerprint = "pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter), " +
	"CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END"

// Witness implements [Settler].
func (*ByStatus) Witness(ctx context.Context, conn driver.Conn, last bool) ([]string, error) {
	id := "pg_current_xact_id_if_assigned()"
	if last { // which may be the first that writes
		id = "pg_current_xact_id()"
	}
	row, err := conn.FirstRow(ctx, "SELECT "+id+", pg_backend_pid(), "+fingerprint)
	if err == nil && len(row) != 5 {
		err = fmt.Errorf("got %d columns", len(row))
	}
	if err != nil {
		return nil, fmt.Errorf("SettleByStatus: asking for the transaction's id, for which it takes PostgreSQL: %w", err)
	}
	return row, nil
}

func (*ByStatus) verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error) {
	id, pid := witness[0], witness[1]
	if id == "" {
		return driver.Unknown, nil
	}
	row, err := conn.FirstRow(ctx, "SELECT pg_xact_status('"+id+"'), NULL, "+fingerprint)
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
		_, err := conn.FirstRow(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = "+pid+
			" AND backend_xid::text = ('"+id+"'::text::numeric % 4294967296)::text AND wait_event IS DISTINCT FROM 'SyncRep'")
		if err == nil {
			err = errUnsettled
		}
		return driver.Unknown, err
	}
	return driver.Unknown, nil // too old to be known
}

// LedgerTable is the statement that creates the table of [ByLedger].
const LedgerTable = "CREATE TABLE dbscope_ledger (id CHAR(26) PRIMARY KEY, created_at BIGINT NOT NULL)"

// PurgeBefore is the statement that deletes the ledger's rows from before a time.
func PurgeBefore(t time.Time) string {
	return "DELETE FROM dbscope_ledger WHERE abs(created_at) < " + strconv.FormatInt(t.Unix(), 10)
}

// ByLedger writes a row in each transaction, and looks for it.
type ByLedger struct{}

// Witness implements [Settler].
func (ByLedger) Witness(ctx context.Context, conn driver.Conn, _ bool) ([]string, error) {
	id := rand.Text()
	if _, err := conn.FirstRow(ctx, ledgerInsert(id, "")); err != nil {
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
func (ByLedger) verdict(ctx context.Context, conn driver.Conn, witness []string) (driver.Outcome, error) {
	id := witness[0]
	if err := conn.Begin(ctx, driver.TxOptions{}); err != nil {
		return driver.Unknown, err
	}
	if _, err := conn.FirstRow(ctx, ledgerInsert(id, "-")); err == nil {
		if _, err := conn.Commit(ctx); err != nil {
			return driver.Unknown, err
		}
		return driver.RolledBack, nil
	}
	if err := conn.Rollback(ctx); err != nil {
		return driver.Unknown, err
	}
	row, err := conn.FirstRow(ctx, "SELECT created_at FROM dbscope_ledger WHERE id = '"+id+"'")
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
