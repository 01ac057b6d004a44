package childtest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/child"
)

// outlives is the test for which [EndBadly] is. Only Linux tells a process that
// its parent is gone.
func outlives(t *testing.T, removeAbandoned func()) {
	for _, how := range []string{"exits", "panics", "is killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), endVariable+"="+how)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			dir, err := bufio.NewReader(out).ReadString('\n')
			dir = strings.TrimSpace(dir)
			if err != nil || !strings.HasPrefix(dir, "/") {
				t.Errorf("the child said %q (%v)", dir, err)
			}
			if how == "is killed" || t.Failed() {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the child ended well")
			}
			check.Eventually(t, "the end of its processes", func() bool { return len(child.Within(dir)) == 0 })
			removeAbandoned()
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("directory %s is still there (%v)", dir, err)
			}
		})
	}
}
