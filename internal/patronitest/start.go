package patronitest

import (
	"runtime"
	"testing"
)

// Start starts a cluster that belongs to this test: it ends when the test does,
// and its logs are shown when that has failed. It blocks as [New] does.
// Elsewhere than on Linux the test is skipped.
func Start(t testing.TB) *Cluster {
	t.Helper()
	if !supported {
		t.Skipf("%v, and this is %s", errNotSupported, runtime.GOOS)
	}
	c, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
