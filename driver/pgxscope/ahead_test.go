package pgxscope

import (
	"bufio"
	"io"
	"testing"

	"github.com/dbscope/dbscope/driver"
)

// answers are those to BEGIN and to a statement for settings, and a message of pgx's
// own after each round.
type answers struct{ left []byte }

var round = []byte("1\x00\x00\x00\x04" + "2\x00\x00\x00\x04" + "C\x00\x00\x00\x0aBEGIN\x00" +
	"1\x00\x00\x00\x04" + "2\x00\x00\x00\x04" + "D\x00\x00\x00\x13\x00\x02\x00\x00\x00\x03ada\x00\x00\x00\x025s" + "C\x00\x00\x00\x0dSELECT 1\x00" +
	"Z\x00\x00\x00\x05T")

func (a *answers) Read(p []byte) (int, error) {
	if len(a.left) == 0 {
		a.left = round
	}
	n := copy(p, a.left)
	a.left = a.left[n:]
	return n, nil
}

// BenchmarkSettings is what this package does for two settings, BEGIN left out: it
// writes them in front of a statement and takes the answers out of what pgx reads.
func BenchmarkSettings(b *testing.B) {
	settings := []driver.Setting{{Name: "app.tenant", Value: "ada"}, {Name: "statement_timeout", Value: "5s"}}
	w := &wire{w: io.Discard, in: bufio.NewReaderSize(&answers{}, inputBuffer)}
	statement, answer := []byte("S\x00\x00\x00\x04"), make([]byte, 6)
	b.ReportAllocs()
	for b.Loop() {
		w.add(ahead{text: "begin"})
		w.add(settingsAhead(settings))
		if _, err := w.Write(statement); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(w, answer); err != nil || answer[0] != 'Z' || !w.quiet() {
			b.Fatal(err, answer)
		}
	}
}
