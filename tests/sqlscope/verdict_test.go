package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// victim is a unit whose session is about to be ended from outside, after its
// last statement and before its COMMIT.
type victim struct {
	ctx context.Context // the unit's
	*opened
	id int // of the session
}

func (v *victim) run(t *testing.T, statement string) {
	_, err := v.ExecContext(v.ctx, statement)
	ok(t, err)
}

// ends waits until the server has no such session any more.
func (v *victim) ends(t *testing.T) {
	query := "SELECT count(*) FROM pg_stat_activity WHERE pid = " + strconv.Itoa(v.id)
	if v.ofMySQL {
		query = "SELECT count(*) FROM information_schema.processlist WHERE id = " + strconv.Itoa(v.id)
	}
	drivertest.Eventually(t, "the session has ended", func() bool {
		n := 1
		return v.other.QueryRow(query).Scan(&n) == nil && n == 0
	})
}

// endings are ways in which a session ends.
type endings map[string]ending

type ending struct {
	end func(t *testing.T, v *victim)
	// known are the drivers that show enough: the unit is then ErrRolledBack, and
	// ErrCommitUnknown with the others.
	known []string
}

// test runs a unit for each way and driver. docs/outcomes.md has the results in
// a table.
func (all endings) test(t *testing.T, drivers []string, dsn string, restart func(*testing.T)) {
	for name, way := range all {
		for _, driver := range drivers {
			verdict, want := "unknown", dbscope.ErrCommitUnknown
			for _, known := range way.known {
				if known == driver {
					verdict, want = "rolled back", dbscope.ErrRolledBack
				}
			}
			t.Run(name+" by "+driver+" is "+verdict, func(t *testing.T) {
				d := openOn(t, driver, dsn)
				hooks := 0
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, d.AfterRollback(ctx, func(context.Context) error { hooks++; return nil }))
					_, err := d.ExecContext(ctx, storeOne)
					ok(t, err)
					v := &victim{ctx: ctx, opened: d}
					id := "SELECT pg_backend_pid()"
					if d.ofMySQL {
						id = "SELECT connection_id()"
					}
					ok(t, d.QueryRowContext(ctx, id).Scan(&v.id))
					way.end(t, v)
					return nil
				})
				restart(t)
				drivertest.Eventually(t, "the server answers", func() bool { return d.other.QueryRow("SELECT 1").Scan(new(int)) == nil })
				if !errors.Is(err, want) || errors.Is(err, dbscope.ErrRolledBack) == errors.Is(err, dbscope.ErrCommitUnknown) {
					t.Errorf("the unit's error is %v", err)
				}
				if ran := hooks == 1; ran != (verdict == "rolled back") {
					t.Errorf("%d hooks of a rollback ran", hooks)
				}
				if got := d.stored(t); got != nil {
					t.Errorf("stored %v", got)
				}
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, "INSERT INTO t (id) VALUES (2)")
					return err
				}))
				if got := d.stored(t); len(got) != 1 {
					t.Errorf("after the next unit stored %v", got)
				}
			})
		}
	}
}

func signal(t *testing.T, pid int, sig syscall.Signal) {
	p, err := os.FindProcess(pid)
	ok(t, err)
	ok(t, p.Signal(sig))
}

// openOn opens a database that is there already, over an empty table t.
func openOn(t *testing.T, driver, dsn string) *opened {
	other, err := sql.Open(driver, dsn)
	ok(t, err)
	_, err = other.Exec("DROP TABLE IF EXISTS t")
	ok(t, err)
	_, err = other.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
	ok(t, err)
	d := &opened{database: database{driver: driver, ofMySQL: strings.HasPrefix(driver, "mysql")}, other: other}
	d.scoped = overSQL{sqlscope.Open(driver, dsn, dbscope.Name("test"))}
	t.Cleanup(func() {
		ok(t, d.Close())
		ok(t, other.Close())
	})
	return d
}

func TestASessionOfPostgreSQLThatEndsBeforeCommit(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.CreateDatabase(t)
	down := false
	endings{
		"an administrator": {known: []string{"pgx"}, end: func(t *testing.T, v *victim) {
			ok(t, v.other.QueryRow("SELECT pg_terminate_backend($1, 10000)", v.id).Err())
			v.ends(t)
		}},
		"idle_in_transaction_session_timeout": {known: []string{"pgx"}, end: func(t *testing.T, v *victim) {
			v.run(t, "SET LOCAL idle_in_transaction_session_timeout = '20ms'")
			v.ends(t)
		}},
		"transaction_timeout": {known: []string{"pgx"}, end: func(t *testing.T, v *victim) {
			if err := v.other.QueryRow("SHOW transaction_timeout").Scan(new(string)); err != nil {
				t.Skip("the server has none: it came with PostgreSQL 17")
			}
			v.run(t, "SET LOCAL transaction_timeout = '20ms'")
			v.ends(t)
		}},
		"a fast shutdown": {known: []string{"pgx"}, end: func(*testing.T, *victim) { server.Stop(); down = true }},
		"an immediate shutdown": {end: func(t *testing.T, v *victim) {
			var pid int
			ok(t, v.other.QueryRow(`SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`).Scan(&pid))
			signal(t, pid, syscall.SIGQUIT)
			drivertest.Eventually(t, "it is on its way", func() bool { return v.other.QueryRow("SELECT 1").Scan(new(int)) != nil })
			server.Stop() // waits for the end
			down = true
		}},
		"the death of the main process": {known: []string{"pgx"}, end: func(*testing.T, *victim) { server.Kill(); down = true }},
		"the death of its own process": {end: func(t *testing.T, v *victim) {
			signal(t, v.id, syscall.SIGKILL)
			v.ends(t)
		}},
		"the death of another process": {end: func(t *testing.T, v *victim) {
			var pid int
			ok(t, v.other.QueryRow("SELECT pg_backend_pid()").Scan(&pid))
			signal(t, pid, syscall.SIGKILL)
			v.ends(t)
		}},
	}.test(t, []string{"pgx", "postgres"}, dsn, func(t *testing.T) {
		if down {
			server.Restart(t)
		}
		down = false
	})
}

// A shutdown of the primary and the promotion of its standby, as a switchover
// does it.
func TestASessionThatEndsBeforeCommitWithAFailover(t *testing.T) {
	for driver, want := range map[string]error{"pgx": dbscope.ErrRolledBack, "postgres": dbscope.ErrCommitUnknown} {
		t.Run(driver, func(t *testing.T) {
			primary := pgtest.Start(t, "wal_level = replica", "max_wal_senders = 5", "hot_standby = on")
			dsn := primary.CreateDatabase(t)
			d := openOn(t, driver, dsn)
			standby := primary.Standby(t)
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, storeOne)
				ok(t, err)
				primary.Stop()
				standby.Query(t, standby.DSN("postgres"), "SELECT pg_promote()")
				return nil
			}), want)
			promoted := standby.DSN(dsn[strings.LastIndex(dsn, "/")+1 : strings.LastIndex(dsn, "?")])
			if got := standby.Query(t, promoted, "SELECT count(*) FROM t"); got != "0" {
				t.Errorf("the promoted server has %s rows", got)
			}
		})
	}
}

// What ends a session whose COMMIT waits for a standby finds it committed: the
// error of a session that ends must not be taken for a proof then.
func TestASessionThatEndsWhileItsCommitWaitsForAStandbyIsUnknownAndStored(t *testing.T) {
	server := pgtest.Start(t, "synchronous_standby_names = 'nobody'")
	dsn := server.CreateDatabase(t)
	for _, driver := range []string{"pgx", "postgres"} {
		for name, end := range map[string]func(pid string){
			"an administrator":  func(pid string) { server.Query(t, dsn, "SELECT pg_terminate_backend("+pid+")") },
			"a fast shutdown":   func(string) { server.Stop() },
			"a death by signal": func(string) { server.Kill() },
		} {
			t.Run(name+" by "+driver, func(t *testing.T) {
				server.Query(t, dsn, "SET synchronous_commit = local; DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER)")
				d := sqlscope.Open(driver, dsn)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					pid := ""
					for pid == "" {
						time.Sleep(time.Millisecond)
						pid = server.Query(t, dsn, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
					}
					end(pid)
				}()
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, "INSERT INTO t (id) VALUES (1)")
					return err
				})
				<-ended
				server.Restart(t)
				if !errors.Is(err, dbscope.ErrCommitUnknown) || errors.Is(err, dbscope.ErrRolledBack) {
					t.Errorf("the unit's error is %v", err)
				}
				if n := server.Query(t, dsn, "SELECT count(*) FROM t"); n != "1" {
					t.Errorf("%s rows are stored", n)
				}
				ok(t, d.Close())
			})
		}
	}
}

// The timeout of idle sessions is not for those in a transaction: it ends none
// before its COMMIT.
func TestIdleSessionTimeoutLeavesAUnitAlone(t *testing.T) {
	dsn := pgtest.Shared(t).CreateDatabase(t)
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			d := openOn(t, driver, dsn)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, "SET LOCAL idle_session_timeout = '10ms'")
				ok(t, err)
				_, err = d.ExecContext(ctx, storeOne)
				ok(t, err)
				time.Sleep(100 * time.Millisecond)
				return nil
			}))
			if got := d.stored(t); len(got) != 1 {
				t.Errorf("stored %v", got)
			}
		})
	}
}

func TestASessionOfMariaDBOrMySQLThatEndsBeforeCommit(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		server := p.start(t)
		dsn := server.CreateDatabase(t)
		// By its own name the driver is known to look. Behind another it is not.
		known := []string{"mysql"}
		down := false
		all := endings{
			"an administrator": {known: known, end: func(t *testing.T, v *victim) {
				server.Query(t, "", "KILL "+strconv.Itoa(v.id))
				v.ends(t)
			}},
			"wait_timeout": {known: known, end: func(t *testing.T, v *victim) {
				v.run(t, "SET SESSION wait_timeout = 1")
				v.ends(t)
			}},
			"a shutdown":        {known: known, end: func(*testing.T, *victim) { server.Stop(); down = true }},
			"a death by signal": {known: known, end: func(*testing.T, *victim) { server.Kill(); down = true }},
		}
		if p.mysql { // which says so by an error in answer to COMMIT
			all["wait_timeout"] = ending{known: []string{"mysql", "mysql with $1"}, end: all["wait_timeout"].end}
		} else {
			all["idle_transaction_timeout"] = ending{known: known, end: func(t *testing.T, v *victim) {
				v.run(t, "SET SESSION idle_transaction_timeout = 1")
				v.ends(t)
			}}
		}
		all.test(t, []string{"mysql", "mysql with $1"}, dsn, func(t *testing.T) {
			if down {
				server.Restart(t)
			}
			down = false
		})
	})
}

// lib/pq closes a connection whose statement's context ends as the statement
// returns, though it succeeded: COMMIT is then not sent at all.
func TestACommitThatTheDriverCannotSendIsRolledBack(t *testing.T) {
	for name, d := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			o := open(t, d)
			stored, undone := 0, 0
			for id := 1; id <= 200 && (undone < 5 || stored < 5); id++ {
				hooks := 0
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, o.AfterRollback(ctx, func(context.Context) error { hooks++; return nil }))
					ok(t, insert(ctx, o, 2*id))
					ctx, cancel := context.WithCancel(ctx)
					go cancel()
					_ = insert(ctx, o, 2*id+1) // which may succeed
					return nil
				})
				switch {
				case err == nil:
					stored++
				case !errors.Is(err, dbscope.ErrRolledBack) || errors.Is(err, dbscope.ErrCommitUnknown) || hooks != 1:
					t.Fatalf("after %d hooks the error is %v", hooks, err)
				default:
					undone++
				}
				var n int
				ok(t, o.other.QueryRow("SELECT count(*) FROM t WHERE id = "+strconv.Itoa(2*id)).Scan(&n))
				if n == 1 != (err == nil) {
					t.Fatalf("%d rows are stored, and the unit's error is %v", n, err)
				}
			}
			t.Logf("%d units were committed, %d rolled back", stored, undone)
		})
	}
}
