package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

const (
	workers = 8
	part    = 10 // of what one unit takes
)

// Eight units take from two accounts, whose sum allows it to four of them: each
// looks at both and takes from one, so that two can look before either takes.
func TestSerializableUnitsThatAreRetriedAllSucceedWithoutWriteSkew(t *testing.T) {
	onEachSerializable(t, func(t *testing.T, d *opened) {
		policy := dbscope.RetryPolicy{Attempts: 100, MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond}
		retried := false
		for round := 0; round < 5 || !retried && round < 100; round++ {
			errs, attempts := d.take(t, dbscope.Retry(policy))
			ok(t, errors.Join(errs...))
			if sum := d.sum(t); sum != 0 {
				t.Errorf("the sum is %d after each unit took or saw that it must not", sum)
			}
			retried = retried || attempts > workers
		}
		if !retried {
			t.Error("no unit met another")
		}
	})
}

func TestSerializableUnitsThatAreNotRetriedFailWithTheConflict(t *testing.T) {
	onEachSerializable(t, func(t *testing.T, d *opened) {
		for range 100 {
			errs, attempts := d.take(t)
			if sum := d.sum(t); sum < 0 || attempts != workers {
				t.Errorf("the sum is %d after %d attempts", sum, attempts)
			}
			for _, err := range errs {
				if !conflicts(err) {
					t.Errorf("the error is %v", err)
				}
			}
			if len(errs) > 0 {
				return
			}
		}
		t.Error("no unit met another")
	})
}

// onEachSerializable runs a test on each database where transactions that write
// meet, over two accounts.
func onEachSerializable(t *testing.T, test func(t *testing.T, d *opened)) {
	for name, d := range databases {
		if !d.postgres && !d.ofMySQL {
			continue // SQLite has one writer at a time
		}
		t.Run(name, func(t *testing.T) {
			o := open(t, d)
			_, err := o.other.Exec("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
			ok(t, err)
			test(t, o)
		})
	}
}

// take fills the accounts, lets all workers take at once, and returns their
// errors and how often they were called.
func (d *opened) take(t *testing.T, opts ...dbscope.Option) (errs []error, attempts int) {
	_, err := d.other.Exec("DELETE FROM account")
	ok(t, err)
	_, err = d.other.Exec("INSERT INTO account VALUES (0, $1), (1, $2)", 2*part, 2*part)
	ok(t, err)
	opts = append(opts, dbscope.Isolation(sql.LevelSerializable))
	var calls atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				calls.Add(1)
				var sum int
				if err := d.QueryRowContext(ctx, "SELECT sum(balance) FROM account").Scan(&sum); err != nil || sum < part {
					return err
				}
				_, err := d.ExecContext(ctx, "UPDATE account SET balance = balance - $1 WHERE id = $2", part, i%2)
				if i%4 < 2 {
					return err
				}
				return nil // and the commit tells
			}, opts...)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errs, int(calls.Load())
}

func (d *opened) sum(t *testing.T) (sum int) {
	ok(t, d.other.QueryRow("SELECT sum(balance) FROM account").Scan(&sum))
	return sum
}

// conflicts reports whether an error is one that another attempt may not meet.
func conflicts(err error) bool {
	var state interface{ SQLState() string }
	var coded interface{ Code() int }
	switch {
	case number(err) != 0:
		return number(err) == 1213 || number(err) == 1020 // with innodb_snapshot_isolation, which MariaDB 11.8 has by default
	case errors.As(err, &state):
		return state.SQLState() == "40001"
	case errors.As(err, &coded):
		return coded.Code()&0xff == 5 // SQLITE_BUSY
	}
	return false
}

// rollbackJournal is SQLite as it was before the write-ahead log: a reader
// refuses a writer's COMMIT, and nothing before it.
var rollbackJournal = database{driver: "sqlite", dsn: func(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(0)&_pragma=journal_mode(DELETE)"
}}

// conflict makes the COMMIT, and no statement, fail of a transaction that has
// read and written t, until end is called. The table holds a row 0.
func (d *opened) conflict(t *testing.T) (end func()) {
	// On PostgreSQL the two do not see each other's writes; the first that
	// commits dooms the other. On SQLite this one has to stay open.
	var opts *sql.TxOptions
	if d.postgres {
		opts = &sql.TxOptions{Isolation: sql.LevelSerializable}
	}
	tx, err := d.other.BeginTx(t.Context(), opts)
	ok(t, err)
	ok(t, tx.QueryRow("SELECT count(*) FROM t").Scan(new(int)))
	if !d.postgres {
		return func() { ok(t, tx.Rollback()) }
	}
	_, err = tx.Exec("UPDATE t SET parent = NULL WHERE id = 0")
	ok(t, err)
	ok(t, tx.Commit())
	return func() {}
}
