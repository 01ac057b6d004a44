// Package scopetest runs a test in one transaction that is rolled back at its
// end, together with the code under test. So nothing has to be deleted, and
// nobody waits for a COMMIT.
//
//	func TestOrder(t *testing.T) {
//		ctx := scopetest.Rollback(t, shop)
//		err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, "tea") })
//		...
//	}
//
// Each database of the test has one connection with that transaction. Every scope
// that is begun under the test's context is a savepoint of it:
//
//   - Its commit keeps the work until the test's end, and runs its hooks. Its
//     rollback undoes only its own work, and a failed statement affects only its
//     own scope.
//   - On PostgreSQL a commit checks deferred constraints as COMMIT would, except
//     those that the test itself creates, and a read-only scope cannot write.
//   - Scopes side by side take turns. A scope that is begun inside of another one
//     nests in it: it sees what that one has not committed, and is undone with it.
//     Two that wait for each other get an error with the stacks of both.
//   - Each unit, and each statement of a fixture, has the settings of
//     [dbscope.Settings] that it would have in production.
//   - On MariaDB and MySQL a statement that commits, such as CREATE TABLE, stores
//     what the test has done, and fails the test.
//
// # What differs from production
//
// Nothing is seen from other connections, the isolation level is that of the outer
// transaction, scopes do not conflict with each other, and now() stands still on
// PostgreSQL. Test what depends on these with a database for each test.
//
// # The context
//
// The code under test gets the test's context where it gets its own in production:
// as the argument of a function, as the base context of a server, as the context
// with which a worker is started. It has no scope: code that forgot its unit of
// work gets [dbscope.ErrNoScope] in a test as in production. Fixtures and checks
// use the context of [Fixture], with which each statement is a unit of its own.
package scopetest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/sandbox"
	"github.com/dbscope/dbscope/internal/unit"
	"github.com/dbscope/dbscope/observe"
)

// Rollback returns a context under which nothing that is committed on the
// databases outlives the test; databases that are not named are refused there.
// It opens nothing by itself. Each call has connections of its own, so that
// parallel tests do not meet.
//
// The context ends with the test's. Then everything is rolled back, and the
// test fails where a scope or rows are still open, or somebody has ended the
// transaction.
func Rollback(t testing.TB, dbs ...dbscope.Database) context.Context {
	t.Helper()
	if len(dbs) == 0 {
		t.Fatal("scopetest: name the databases that the test uses")
	}
	box := sandbox.New(dbs...)
	t.Cleanup(func() {
		if err := box.End(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("scopetest: %v", err)
		}
	})
	return test{TB: t, box: box}.in(t.Context())
}

type testKey struct{}

type test struct {
	testing.TB
	box    *sandbox.Sandbox
	strict []observe.Observer
}

// in returns a context of the test.
func (t test) in(ctx context.Context) context.Context {
	return t.box.Context(context.WithValue(ctx, testKey{}, t), t.strict...)
}

// of returns the test of a context of Rollback.
func of(ctx context.Context) test {
	t, ok := ctx.Value(testKey{}).(test)
	if !ok {
		panic("scopetest: the context is not one of scopetest.Rollback, or made from it")
	}
	return t
}

// Fixture returns a context for what the test itself does outside units of work,
// with ctx's transaction: to make fixtures and to look at what was stored. Each
// statement with it is a unit of its own, also through a DB's SQL method and the
// libraries on it. Do not give it to the code that is tested: there it would hide
// that a unit is missing.
func Fixture(ctx context.Context) context.Context {
	of(ctx)
	return unit.Fixture(ctx)
}

// Attach brings a context that does not come from the test's into its
// transaction: that of a gRPC call, in a tap or in an interceptor outside
// dbscope's, or one that the code makes of context.Background when it starts.
//
//	grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
//		return scopetest.Attach(ctx, testCtx), nil
//	})
func Attach(ctx, testCtx context.Context) context.Context {
	return of(testCtx).in(ctx)
}

// Count returns how many rows the table has, as the scope of ctx sees it, or the
// test where there is none. The table's name is put into the statement as it is. It fails the test where the
// statement fails.
func Count(ctx context.Context, db dbscope.Database, table string) int {
	t := of(ctx)
	t.Helper()
	n, err := count(unit.Fixture(ctx), db, table)
	if err != nil {
		t.Fatalf("scopetest: counting the rows of %s: %v", table, err)
	}
	return n
}

func count(ctx context.Context, db dbscope.Database, table string) (int, error) {
	s, err := dbscope.Gate(db).Session(ctx)
	if err != nil {
		return 0, err
	}
	conn, err := s.Enter(ctx)
	if err != nil {
		return 0, err
	}
	row, err := conn.FirstRow(ctx, "SELECT count(*) FROM "+table)
	if err := s.Exit(ctx, err); err != nil {
		return 0, err
	}
	return strconv.Atoi(row[0])
}

// Server is an [httptest.Server] whose requests run under Context, which is
// that of [Rollback].
type Server struct {
	*httptest.Server
	Context context.Context
}

// Serve starts a server for the handler. It is closed when the test ends, which
// waits for requests.
func Serve(t testing.TB, handler http.Handler, dbs ...dbscope.Database) *Server {
	t.Helper()
	ctx := Rollback(t, dbs...)
	s := httptest.NewUnstartedServer(handler)
	s.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.Start()
	t.Cleanup(s.Close) // before the rollback
	return &Server{s, ctx}
}
