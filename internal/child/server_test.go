package child_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// In a child process this test binary is the server: it listens on a port.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		_, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
		fmt.Println("listening:", err)
		if err != nil {
			os.Exit(1)
		}
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

var kind = &child.Kind{Package: "childtest", Name: "test server", User: "root", Stop: syscall.SIGKILL, Discard: syscall.SIGKILL}

// launch starts a server; first is called before each of its starts.
func launch(t *testing.T, first func(port int)) (*child.Server, error) {
	t.Helper()
	s, err := kind.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	command := func() (*exec.Cmd, error) {
		first(s.Port())
		return exec.Command(os.Args[0], "listen", strconv.Itoa(s.Port())), nil
	}
	ready := func(_ int, log string) bool { return strings.Contains(log, "listening: <nil>") }
	return s, s.Launch(nil, command, ready)
}

func TestAServerWhosePortSomebodyTakesStartsOnAnother(t *testing.T) {
	var ports []int
	server := child.ForTest(t, func() (*child.Server, error) {
		return launch(t, func(port int) {
			if ports = append(ports, port); len(ports) > 2 {
				return
			}
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		})
	})
	if len(ports) != 3 || server.Port() != ports[2] {
		t.Errorf("it tried the ports %v and is on %d", ports, server.Port())
	}
	server.Restart(t)
	if len(ports) != 4 || server.Port() != ports[3] || ports[3] != ports[2] {
		t.Errorf("after a restart it is on %d; the ports were %v", server.Port(), ports)
	}
}

func TestAServerThatDoesNotStartIsRemovedAndItsLogIsTheError(t *testing.T) {
	var taken []net.Listener
	s, err := launch(t, func(port int) {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, l)
	})
	for _, l := range taken {
		_ = l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "ended while starting") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the error is %v", err)
	}
	if len(taken) != 5 {
		t.Errorf("%d attempts", len(taken))
	}
	if _, err := os.Stat(s.Dir()); !os.IsNotExist(err) {
		t.Errorf("the directory is still there (%v)", err)
	}
}
