package main

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child"
)

func TestAKilledPrimaryIsReplacedAndComesBack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a cluster needs Linux")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	control := "127.0.0.1:" + strconv.Itoa(port)
	var out transcript
	done := make(chan struct{})
	go func() {
		err := run(ctx, []string{"-control", control}, strings.NewReader("seven\n"), &out)
		if err != nil {
			t.Error(err)
			cancel() // nobody need wait for what it says
		}
		close(done)
	}()
	out.wait(ctx, t, "HOSTS=127.0.0.1:")
	out.wait(ctx, t, " PRIMARY")
	out.wait(ctx, t, "a number from 1 to 6")

	var answer transcript
	if err := run(ctx, []string{"-kill", "-control", control}, nil, &answer); err != nil {
		t.Fatal(err)
	}
	answer.wait(ctx, t, "killed")
	out.wait(ctx, t, "kill -9 of the node of node")
	out.wait(ctx, t, "the cluster healthy after")
	cancel()
	<-done
	out.wait(t.Context(), t, "stopping")
}

func TestAProgramThatIsMissingEndsTheExampleAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a cluster needs Linux")
	}
	t.Setenv("PATH", "") // the etcd's at the latest is not found
	t.Setenv("DBSCOPE_ETCD", "")
	var out transcript
	err := run(t.Context(), []string{"-control", "127.0.0.1:0"}, strings.NewReader(""), &out)
	if err == nil || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("got %v", err)
	}
}

// transcript can be written and read at once.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (x *transcript) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.Write(b)
}

func (x *transcript) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.String()
}

func (x *transcript) wait(ctx context.Context, t *testing.T, part string) {
	t.Helper()
	for !strings.Contains(x.String(), part) {
		select {
		case <-ctx.Done():
			t.Fatalf("%q is not said in:\n%s", part, x)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
