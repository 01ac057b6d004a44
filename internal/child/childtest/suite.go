// Package childtest tests what tests rely on in servers of package child, of
// whichever database: what becomes of their data, and that nothing is left of them.
package childtest

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/dbscope/dbscope/internal/check"
)

// Server is what a package has that runs servers of a database.
type Server interface {
	comparable
	CreateDatabase(t testing.TB) string
	Query(t testing.TB, database, statements string) string
	TryQuery(database, statements string) error
	Dir() string
	Port() int
	Stop()
	Kill()
	Restart(t testing.TB)
}

// Suite is a package that runs servers.
type Suite[S Server] struct {
	Start           func(t testing.TB, settings ...string) S
	Shared          func(t testing.TB) S
	RemoveAbandoned func()

	// Database turns what CreateDatabase returns into what Query takes.
	Database func(t testing.TB, s S, dsn string) string
	Admin    string // a database that always exists, for Query
	Left     string // a query for the number of databases that CreateDatabase made
	Sleep    string // a statement that takes a minute
	Sleeping string // a query, in the same database, for the number of sessions that execute it
}

// Run runs the tests.
func (x Suite[S]) Run(t *testing.T) {
	t.Run("all tests of a package share one server", x.sharedIsOne)
	t.Run("each test has an empty database of its own", x.ownDatabase)
	t.Run("a database is dropped though a transaction is open", x.openTransaction)
	t.Run("committed rows survive a kill", x.kill)
	t.Run("a restart of a running server keeps its data", x.restart)
	t.Run("nothing is left when the test ends", x.nothingLeft)
	t.Run("no server outlives its test binary", func(t *testing.T) { outlives(t, x.RemoveAbandoned) })
}

func (x Suite[S]) sharedIsOne(t *testing.T) {
	if x.Shared(t) != x.Shared(t) {
		t.Error("two servers")
	}
}

func (x Suite[S]) ownDatabase(t *testing.T) {
	s := x.Shared(t)
	seen := map[string]bool{}
	for range 3 {
		t.Run("", func(t *testing.T) {
			dsn := s.CreateDatabase(t)
			if seen[dsn] {
				t.Errorf("%s was used before", dsn)
			}
			seen[dsn] = true
			s.Query(t, x.Database(t, s, dsn), "create table orders (id int)")
		})
	}
	if got := s.Query(t, x.Admin, x.Left); got != "0" {
		t.Errorf("%s databases were not dropped", got)
	}
}

func (x Suite[S]) openTransaction(t *testing.T) {
	s := x.Shared(t)
	done := make(chan struct{})
	t.Run("", func(t *testing.T) {
		db := x.Database(t, s, s.CreateDatabase(t))
		s.Query(t, db, "create table orders (id int)")
		go func() {
			defer close(done)
			_ = s.TryQuery(db, "begin; insert into orders values (1); "+x.Sleep)
		}()
		check.Eventually(t, "a session that sleeps", func() bool { return s.Query(t, db, x.Sleeping) == "1" })
	})
	<-done
}

func (x Suite[S]) kill(t *testing.T) {
	t.Parallel()
	s := x.Start(t)
	db := x.Database(t, s, s.CreateDatabase(t))
	s.Query(t, db, "create table orders (id int); insert into orders values (1), (2)")
	broken := make(chan error)
	go func() { broken <- s.TryQuery(db, "begin; insert into orders values (3); "+x.Sleep) }()
	check.Eventually(t, "a session that sleeps", func() bool { return s.Query(t, db, x.Sleeping) == "1" })
	port := s.Port()

	s.Kill()
	s.Kill() // does nothing
	if err := <-broken; err == nil {
		t.Error("a client did not notice")
	}
	if answers(port) {
		t.Error("a killed server accepts connections")
	}

	s.Restart(t)
	if s.Port() != port {
		t.Errorf("port %d, was %d", s.Port(), port)
	}
	if got := s.Query(t, db, "select id from orders order by id"); got != "1\n2" {
		t.Errorf("got rows %q", got)
	}
}

func (x Suite[S]) restart(t *testing.T) {
	t.Parallel()
	s := x.Start(t)
	db := x.Database(t, s, s.CreateDatabase(t))
	s.Query(t, db, "create table orders (id int); insert into orders values (1)")
	s.Restart(t)
	s.Stop()
	s.Stop() // does nothing
	s.Restart(t)
	if got := s.Query(t, db, "select id from orders"); got != "1" {
		t.Errorf("got rows %q", got)
	}
}

func (x Suite[S]) nothingLeft(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(S){
		"running": func(S) {},
		"stopped": S.Stop,
		"killed":  S.Kill,
	} {
		var dir string
		var port int
		t.Run(name, func(t *testing.T) {
			s := x.Start(t)
			dir, port = s.Dir(), s.Port()
			s.CreateDatabase(t)
			down(s)
		})
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: directory %s is still there (%v)", name, dir, err)
		}
		if answers(port) {
			t.Errorf("%s: the server still runs", name)
		}
	}
}

func answers(port int) bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
