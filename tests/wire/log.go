package wire

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	loggedMessages = 1000
	loggedText     = 200
	shownMessages  = 60
)

type log struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	connection int
	sign       string
	name, text string
	times      int
}

func (l *log) add(connection int, sign string, m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := entry{connection, sign, m.name, m.text, 1}
	if n := len(l.entries); n > 0 && (m.name == "DataRow" || m.name == "CopyData") {
		last := &l.entries[n-1]
		if last.name == e.name && last.connection == e.connection && last.sign == e.sign {
			last.times++
			return
		}
	}
	if len(l.entries) == 2*loggedMessages {
		l.entries = slices.Delete(l.entries, 0, loggedMessages)
	}
	l.entries = append(l.entries, e)
}

func (l *log) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

func (l *log) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := l.entries[max(0, len(l.entries)-loggedMessages):]
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[i] = e.String()
	}
	return lines
}

func (l *log) show(t testing.TB) {
	lines := l.lines()
	lines = lines[max(0, len(lines)-shownMessages):]
	t.Logf("the last messages on the wire:\n%s", strings.Join(lines, "\n"))
}

func (e entry) String() string {
	line := e.sign + e.name
	if e.connection > 1 {
		line = fmt.Sprintf("[%d] %s", e.connection, line)
	}
	if e.times > 1 {
		line = fmt.Sprintf("%s x%d", line, e.times)
	}
	text := strings.Join(strings.Fields(e.text), " ")
	if len(text) > loggedText {
		text = strings.ToValidUTF8(text[:loggedText], "") + "..."
	}
	if text != "" {
		line += " " + text
	}
	return line
}
