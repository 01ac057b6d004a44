package pgtest

import (
	"os"
	"strings"
	"testing"
)

// tailLines is how much of the server's log a failed test shows.
const tailLines = 40

// showLog logs the end of the server's log, not further back than the offset,
// if the test has failed.
func (s *Server) showLog(t testing.TB, offset int64) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the PostgreSQL log:\n%s", s.tail(offset))
	}
}

func (s *Server) logSize() int64 {
	info, err := os.Stat(s.logFile())
	if err != nil {
		return 0
	}
	return info.Size()
}

func (s *Server) tail(offset int64) string { return tail(s.logFile(), offset) }

func tail(file string, offset int64) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content[min(offset, int64(len(content))):]), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
