package child

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// server is a [Server], or something that has one embedded.
type server interface {
	comparable
	logged() int64
	showLog(t testing.TB, offset int64)
	remove() error
}

// ForTest starts a server that belongs to this test: it is stopped, and its data
// removed, when the test ends.
func ForTest[S server](t testing.TB, start func() (S, error)) S {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	})
	s.showLog(t, 0)
	return s
}

// Shared is the one server that the tests of a package share. It starts with its
// first use. The fields are set once.
type Shared[S server] struct {
	Package string // whose Main and Shared these are
	Start   func() (S, error)

	mu     sync.Mutex
	main   bool // Main is there to stop it
	server S
	err    error
}

// Runner is what TestMain deals with: [*testing.M], and the result of
// [Shared.Main].
type Runner interface{ Run() int }

// Main wraps the tests of a package: when they are done, the server that they
// share stops. What Run returns is the exit code.
func (s *Shared[S]) Main(m Runner) Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.main = true
	return runner[S]{m, s}
}

type runner[S server] struct {
	tests  Runner
	shared *Shared[S]
}

func (r runner[S]) Run() int {
	code := r.tests.Run()
	s := r.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	var none S
	if s.server == none {
		return code
	}
	if err := s.server.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	s.server = none
	return code
}

// Server returns the server, and starts it with the first call.
func (s *Shared[S]) Server(t testing.TB) S {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.main {
		t.Fatalf("%s: Shared needs func TestMain(m *testing.M) { os.Exit(%s.Main(m).Run()) }", s.Package, s.Package)
	}
	var none S
	if s.server == none && s.err == nil {
		s.server, s.err = s.Start()
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.server.showLog(t, s.server.logged())
	return s.server
}
