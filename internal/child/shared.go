package child

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// Shared is the one server that the tests of a package share. It starts with its
// first use. The fields are set once.
type Shared[S any] struct {
	Package string // whose Main and Shared these are
	Start   func() (*S, error)
	Remove  func(*S) error

	mu     sync.Mutex
	main   bool // Main is there to stop it
	server *S
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

type runner[S any] struct {
	tests  Runner
	shared *Shared[S]
}

func (r runner[S]) Run() int {
	code := r.tests.Run()
	s := r.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return code
	}
	if err := s.Remove(s.server); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	s.server = nil
	return code
}

// Server returns the server, and starts it with the first call.
func (s *Shared[S]) Server(t testing.TB) *S {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.main {
		t.Fatalf("%s: Shared needs func TestMain(m *testing.M) { os.Exit(%s.Main(m).Run()) }", s.Package, s.Package)
	}
	if s.server == nil && s.err == nil {
		s.server, s.err = s.Start()
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}
