package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// Program is a server of another kind that works beside a [Server], such as a
// pooler in front of it.
type Program struct {
	Path  string // of the executable
	Ready string // what it writes to its log, which is its output, once it serves

	// Configure writes the program's files into dir and returns its arguments.
	// It is called again, with another port, when somebody takes the first.
	Configure func(dir string, port int) ([]string, error)
}

// RunBeside starts a program as the server's user, in a new directory of its
// own, and returns its port on 127.0.0.1. It blocks until the program serves,
// and fails the test when it does not. The program ends with the test, and on
// Linux with the test binary, as servers do; its log is shown when the test
// fails. It keeps running while the server is down.
func (s *Server) RunBeside(t testing.TB, p Program) (port int) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		b, err := s.startBeside(p)
		if err == nil {
			t.Cleanup(func() { b.stop(t) })
			return b.port
		}
		if attempt == 5 || b == nil || !taken(b.port) {
			t.Fatal(err)
		}
	}
}

// beside is a running [Program].
type beside struct {
	name, dir string
	port      int
	proc      *child.Process
}

// startBeside returns nil with its error unless the error may be the port's.
func (s *Server) startBeside(p Program) (*beside, error) {
	owner, err := findOwner()
	if err != nil {
		return nil, err
	}
	b := &beside{name: filepath.Base(p.Path)}
	if b.dir, err = os.MkdirTemp(s.dir, b.name+"-"); err != nil {
		return nil, err
	}
	if b.port, err = child.FreePort(); err != nil {
		return nil, err
	}
	args, err := p.Configure(b.dir, b.port)
	if err != nil {
		return nil, err
	}
	if err := owner.Give(b.dir); err != nil {
		return nil, err
	}
	log, err := os.Create(b.logFile())
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	cmd := exec.Command(p.Path, args...)
	cmd.Dir = b.dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	if b.proc, err = child.Start(cmd, owner); err != nil {
		return nil, fmt.Errorf("pgtest: starting %s: %w", b.name, err)
	}
	serves := func() bool { return strings.Contains(child.Tail(b.logFile(), 0), p.Ready) }
	if err := b.proc.Ready(serves, startTimeout, b.dir); err != nil {
		return b, fmt.Errorf("pgtest: %w; its log:\n%s", err, child.Tail(b.logFile(), 0))
	}
	return b, nil
}

func (b *beside) stop(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", b.name, child.Tail(b.logFile(), 0))
	}
	if err := b.proc.End(syscall.SIGTERM, b.dir); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Error(err)
	}
}

func (b *beside) logFile() string { return filepath.Join(b.dir, "log") }

func taken(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
