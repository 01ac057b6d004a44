package patronitest_test

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/patronitest"
)

func TestClusterDoesNotOutliveItsTestBinary(t *testing.T) {
	for _, alsoKeeper := range []bool{false, true} {
		t.Run("keeper killed "+strconv.FormatBool(alsoKeeper), func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), endVariable+"=yes")
			out, err := cmd.StdoutPipe()
			ok(t, err)
			ok(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			dir, keeper, _ := strings.Cut(strings.TrimSpace(line), " ")
			pid, numberErr := strconv.Atoi(keeper)
			if err != nil || numberErr != nil || !strings.HasPrefix(dir, "/") {
				_ = cmd.Process.Kill()
				t.Fatalf("the child said %q (%v)", line, err)
			}
			if n := len(child.Within(dir)); n < 10 {
				t.Errorf("only %d processes", n)
			}
			if alsoKeeper {
				ok(t, syscall.Kill(pid, syscall.SIGKILL)) // of this test's grandchild
			}
			ok(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			if alsoKeeper {
				patronitest.RemoveAbandoned()
			}
			check.Eventually(t, "the end of the cluster", func() bool {
				_, err := os.Stat(dir)
				return os.IsNotExist(err) && len(child.Within(dir)) == 0
			})
		})
	}
}

func TestNothingIsLeftOfAClosedCluster(t *testing.T) {
	c, err := patronitest.New(t.Context())
	ok(t, err)
	ok(t, c.Nodes()[0].Freeze())
	ok(t, c.Nodes()[1].Kill())
	ok(t, c.Close())
	if pids := child.Within(c.Dir()); len(pids) > 0 {
		t.Errorf("processes %v still run", pids)
	}
	if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
		t.Errorf("the directory is still there (%v)", err)
	}
	for _, n := range c.Nodes() {
		if err := meet(n.Host()); err == nil {
			t.Errorf("%s still answers", n)
		}
	}
}
