package dbscope_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
)

// allocated returns how many bytes a call allocates, at least.
func allocated(call func()) uint64 {
	least := ^uint64(0)
	for range 5 { // others may allocate meanwhile
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		call()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// A client may send what it likes.
func TestATokenThatIsTooLongIsIgnoredBeforeItIsDecoded(t *testing.T) {
	for _, long := range []string{strings.Repeat("A", 1<<20), strings.Repeat("\n", 1<<20), strings.Repeat("A", 684)} {
		if n := allocated(func() { _ = dbscope.ReadYourWrites(t.Context(), long) }); n > 1000 {
			t.Errorf("%d bytes cost %d", len(long), n)
		}
		if token := dbscope.WritesToken(dbscope.ReadYourWrites(t.Context(), long)); token != "" {
			t.Errorf("%d bytes are taken for the token of %d bytes", len(long), len(token))
		}
	}
	longest := strings.Repeat("A", 683) // of 512 bytes
	if token := dbscope.WritesToken(dbscope.ReadYourWrites(t.Context(), longest)); token != longest {
		t.Errorf("the longest became %q", token)
	}
}
