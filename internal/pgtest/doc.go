// Package pgtest runs real PostgreSQL servers for tests.
//
// A server is a child process of the test binary, with a data directory of its
// own, on a free port of the loopback interface. It needs an installed
// PostgreSQL and nothing else, the one in the folder that DBSCOPE_PG_BIN names,
// else on PATH, else the newest one where systems put it; without one the test
// fails and says what to do. When the tests run as root the server runs as the system
// user "postgres", since PostgreSQL refuses to be root.
//
// [Start] gives a test its own server, which it may kill and restart. Most
// tests want [Shared], one server for the whole package, and a database of
// their own on it:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }
//
//	func TestSomething(t *testing.T) {
//		dsn := pgtest.Shared(t).CreateDatabase(t)
//		...
//	}
//
// No server outlives its test binary: it stops when the test or the package is
// done and, on Linux, also when the binary panics, exits or is killed. The data
// directory that such an end leaves behind is removed by the next start.
package pgtest
