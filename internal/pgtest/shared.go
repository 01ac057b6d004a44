package pgtest

import (
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

var shared = child.Shared[Server]{
	Package: "pgtest",
	Start:   func() (*Server, error) { return newServer(func(s *Server) error { return s.initialize(nil) }) },
	Remove:  (*Server).remove,
}

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code. Nothing is left running then,
// so a check for leaked goroutines can wrap it in turn:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }
func Main(m child.Runner) child.Runner { return shared.Main(m) }

// Shared returns the server that all tests of the package use, each with a
// database of its own. It starts with the first call and stops after the last
// test, which takes a TestMain that calls [Main]. A test that stops or kills its
// server uses [Start] instead.
func Shared(t testing.TB) *Server {
	t.Helper()
	s := shared.Server(t)
	offset := child.Size(s.logFile())
	t.Cleanup(func() { s.showLog(t, offset) })
	return s
}
