package child

import (
	"os"
	"strings"
)

// tailLines is how much of a server's log a failed test shows.
const tailLines = 40

// Tail returns the last lines of a log, not further back than the offset.
func Tail(file string, offset int64) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content[min(offset, int64(len(content))):]), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// Size returns the length of a log, 0 where there is none yet.
func Size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
