package pgtest

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// shared is the package's one server. It starts with its first use.
var shared struct {
	mu     sync.Mutex
	main   bool // Main is there to stop it
	server *Server
	err    error
}

// Runner is what TestMain deals with: [*testing.M], and the result of [Main].
type Runner interface{ Run() int }

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code. Nothing is left running then,
// so a check for leaked goroutines can wrap it in turn:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }
func Main(m Runner) Runner {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.main = true
	return runner{m}
}

type runner struct{ tests Runner }

func (r runner) Run() int {
	code := r.tests.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		return code
	}
	if err := shared.server.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	shared.server = nil
	return code
}

// Shared returns the server that all tests of the package use, each with a
// database of its own. It starts with the first call and stops after the last
// test, which takes a TestMain that calls [Main]. A test that stops or kills its
// server uses [Start] instead.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.main {
		t.Fatal("pgtest: Shared needs " +
			"func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = newServer(func(s *Server) error { return s.initialize(nil) })
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	s, offset := shared.server, child.Size(shared.server.logFile())
	t.Cleanup(func() { s.showLog(t, offset) })
	return s
}
