package pgbouncer_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// endVariable makes this test binary start a bouncer and wait to be killed.
const endVariable = "DBSCOPE_PGBOUNCER_END"

// Only Linux tells a process that its parent is gone.
func TestItDoesNotOutliveItsTestBinary(t *testing.T) {
	if os.Getenv(endVariable) != "" {
		server := pgtest.Start(t)
		dsn := pgbouncer.Start(t, server).DSN(server.DSN("postgres"))
		if _, err := os.Stdout.WriteString(dsn + "\n"); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), endVariable+"=yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dsn, err := bufio.NewReader(out).ReadString('\n')
	dsn = strings.TrimSpace(dsn)
	if err != nil || !strings.HasPrefix(dsn, "postgres://") {
		t.Errorf("the child said %q (%v)", dsn, err)
	} else if !listens(t, dsn) {
		t.Error("PgBouncer does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended well")
	}
	for deadline := time.Now().Add(20 * time.Second); !t.Failed() && listens(t, dsn); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("PgBouncer still runs")
		}
	}
}
