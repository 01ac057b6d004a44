package pgtest

import (
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// showLog logs the end of the server's log, not further back than the offset,
// if the test has failed.
func (s *Server) showLog(t testing.TB, offset int64) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the PostgreSQL log:\n%s", s.tail(offset))
	}
}

func (s *Server) tail(offset int64) string { return child.Tail(s.logFile(), offset) }
