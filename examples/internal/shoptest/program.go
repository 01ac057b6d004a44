package shoptest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/pgtest"
)

// runMain makes a test's binary the example itself.
const runMain = "DBSCOPE_EXAMPLE_MAIN"

// Main is the TestMain of an example, whose program is main.
func Main(m *testing.M, main func()) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(pgtest.Main(m).Run())
}

// Program is an example that was started as its users start it, on an SQLite
// file of its own.
type Program struct {
	Addr string

	mu     sync.Mutex
	output bytes.Buffer
}

// Start starts the example, and returns when it serves. It stops with the test.
func Start(t *testing.T) *Program {
	t.Helper()
	p := &Program{Addr: freeAddr(t)}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runMain+"=yes", "ADDR="+p.Addr, "DATABASE_URL=", "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed in the end
		cancel()
	}()
	t.Cleanup(func() { <-ended }) // before its files are removed
	if err := p.reached(ctx); err != nil {
		t.Fatalf("the program does not serve: %v\n%s", err, p.Output())
	}
	return p
}

// freeAddr returns an address that nobody listens on, since few frameworks tell
// which one they were given for port 0.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// reached waits until somebody listens.
func (p *Program) reached(ctx context.Context) error {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Write takes what the program prints.
func (p *Program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// Output is what the program has printed so far.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// CheckCurl runs the curl lines that the program prints for its users, and
// compares the status of each answer.
func (p *Program) CheckCurl(t *testing.T, statuses ...string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("no curl found: make setup installs it")
	}
	var got []string
	for line := range strings.Lines(p.Output()) {
		if !strings.HasPrefix(line, "  curl ") {
			continue
		}
		answer, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		_, rest, _ := strings.Cut(string(answer), " ") // HTTP/1.1 201 Created
		status, _, _ := strings.Cut(rest, " ")
		got = append(got, status)
	}
	if strings.Join(got, " ") != strings.Join(statuses, " ") {
		t.Errorf("the statuses are %v, want %v", got, statuses)
	}
}
