package wire

import "strings"

// turns follows one connection's requests and answers, to tell how often the
// client had to wait. Requests are answered in their order, so a queue tells
// which of them a message of the server is about.
type turns struct {
	queue     []request
	delivered int  // the last turn of which the client has been sent an answer
	skipping  bool // the server ignores messages up to the next Sync
	copies    int  // CopyInResponses without CopyDone or CopyFail yet
}

// request is a message of the client that the server answers.
type request struct {
	kind byte
	turn int // 0: the server may keep the answer to itself until a Flush or Sync
}

// closing are the requests whose answer ends with ReadyForQuery.
func (r request) closing() bool { return r.kind == 'Q' || r.kind == 'S' || r.kind == 'F' }

// ending are the answers that end the one to an extended query's message.
// NoData, RowDescription: Describe. CommandComplete, EmptyQueryResponse,
// PortalSuspended: Execute.
var ending = map[byte]string{'P': "1", 'B': "2", 'C': "3", 'D': "nT", 'E': "CIs"}

// sent notes a message of the client, before it is forwarded.
func (t *turns) sent(kind byte) {
	switch {
	case kind == 'c' || kind == 'f': // CopyDone, CopyFail
		t.copies--
	case t.skipping && kind != 'S':
	case kind == 'H':
		t.ask()
	case kind == 'S' || kind == 'Q' || kind == 'F':
		t.skipping, t.copies = false, 0
		t.queue = append(t.queue, request{kind: kind})
		t.ask()
	case ending[kind] != "":
		t.queue = append(t.queue, request{kind: kind})
	}
}

// ask gives what was sent since the last time its turn: the one after those of
// which the client may already have seen an answer.
func (t *turns) ask() {
	for i := len(t.queue) - 1; i >= 0 && t.queue[i].turn == 0; i-- {
		t.queue[i].turn = t.delivered + 1
	}
}

// answered notes a message of the server and returns the turn that the client
// has waited for when it gets the message, or 0.
func (t *turns) answered(kind byte) int {
	switch kind {
	case 'A', 'K', 'N', 'R', 'S', 'v': // come unasked, or while connecting
		return 0
	case 'G': // CopyInResponse: a client need not wait for it
		t.copies++
		return 0
	}
	if len(t.queue) == 0 {
		return 0
	}
	head := t.queue[0]
	switch {
	case kind == 'Z':
		return t.ready()
	case head.closing():
		// A Query is over with its ReadyForQuery. Before that nothing can be asked,
		// and what a COPY sends meanwhile was not waited for.
		return 0
	case kind == 'E':
		t.skip()
	case strings.IndexByte(ending[head.kind], kind) >= 0:
		t.queue = t.queue[1:]
	}
	return head.turn
}

// ready takes away the requests up to the one that ReadyForQuery is for.
func (t *turns) ready() int {
	for i, r := range t.queue {
		if r.closing() {
			t.queue = t.queue[i+1:]
			return r.turn
		}
	}
	return 0
}

// skip takes away the requests that the server ignores after an error.
func (t *turns) skip() {
	for i, r := range t.queue {
		if r.kind == 'S' {
			t.queue = t.queue[i:]
			return
		}
	}
	t.queue, t.skipping = nil, true
}

// deliver notes that the client is being sent an answer of a turn, and tells
// whether it is the first.
func (t *turns) deliver(turn int) bool {
	if turn <= t.delivered {
		return false
	}
	t.delivered = turn
	return true
}

// settled tells whether the server has answered all that it was asked, or waits
// for the data of a COPY.
func (t *turns) settled() bool {
	return len(t.queue) == 0 || t.queue[0].turn == 0 || t.copies > 0
}
