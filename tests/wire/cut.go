package wire

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// CutAt says where a connection is cut.
//
// Both sides are closed, the client's with a RST, when the server is done: it
// has executed what it was sent of the connection, a COMMIT for instance, or
// has rolled it back. So the client's error is the moment from which on a test
// can look at the tables, and a server that hangs keeps the client waiting. No
// answer passes from the moment the message is met, also not to a request
// that was sent together with it.
type CutAt struct {
	// Message is the name of a message of either side, such as "Query", "Parse",
	// "Bind", "Execute", "Sync", "CommandComplete" or "ReadyForQuery".
	Message string

	// Containing limits it to messages that contain this text: of a statement
	// (which Bind, Describe and Execute refer to, and a Sync ends), a command tag,
	// an error's code or message, a transaction status. Empty means every such message.
	Containing string

	// When is Before unless told otherwise.
	When When

	// Times is how many connections are cut, one unless told otherwise.
	Times int
}

// When says how much of the message is forwarded.
type When int

const (
	// Before forwards nothing of the message.
	Before When = iota
	// During forwards half of its bytes.
	During
	// After forwards the whole message.
	After
)

// String is the word in lower case.
func (w When) String() string { return [...]string{"before", "during", "after"}[w] }

func (w When) share(raw []byte) []byte { return raw[:len(raw)*int(w)/2] }

// Cut cuts connections from now on, in addition to what earlier calls said. It
// ends the test where no message has such a name, so it belongs to the test's
// goroutine.
func (p *Proxy) Cut(at CutAt) {
	p.t.Helper()
	if !known(at.Message) {
		p.t.Fatalf("wire: the protocol has no message %q", at.Message)
	}
	at.Times = max(at.Times, 1)
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.waiting = append(p.faults.waiting, at)
}

// CutEach calls a unit of work for each kind of message that contains one of the texts,
// and each moment, with the connection cut there. It returns how many were cut.
func (p *Proxy) CutEach(containing []string, unit func()) (cuts int) {
	for _, text := range containing {
		for _, message := range []string{"Query", "Parse", "Bind", "Execute", "Sync", "CommandComplete"} {
			for _, when := range []When{Before, During, After} {
				p.Reset()
				p.Cut(CutAt{Message: message, Containing: text, When: when})
				unit()
				p.Mend()
				cuts += p.Cuts()
			}
		}
	}
	return cuts
}

// Mend forgets the cuts that were asked for and not yet made.
func (p *Proxy) Mend() {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.waiting = nil
}

type faults struct {
	made atomic.Int64

	mu      sync.Mutex
	waiting []CutAt
}

func (f *faults) find(m message) (When, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.waiting, func(at CutAt) bool {
		return at.Message == m.name && strings.Contains(m.about, at.Containing)
	})
	if i < 0 {
		return 0, false
	}
	when := f.waiting[i].When
	if f.waiting[i].Times--; f.waiting[i].Times == 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
	f.made.Add(1)
	return when, true
}
