package wire

import (
	"iter"
	"net"
	"time"
)

// parcel is what goes out in one write.
type parcel struct {
	data     []byte
	due      time.Time // zero: at once
	turn     int       // which the client has been answered with this; 0: none
	messages []message // for the log, without their bytes
}

func (p *parcel) add(m message, turn int) {
	p.data = append(p.data, m.raw...)
	p.turn = max(p.turn, turn)
	m.raw = nil
	p.messages = append(p.messages, m)
}

// pipe is one direction of a connection, from the goroutine that reads to the
// one that writes.
type pipe struct {
	out    net.Conn
	queue  chan parcel
	killed <-chan struct{}
	failed bool
}

func newPipe(out net.Conn, killed <-chan struct{}) *pipe {
	// The queue holds what is on its way during a delay.
	return &pipe{out: out, queue: make(chan parcel, 1024), killed: killed}
}

func (p *pipe) put(parcel parcel) {
	if len(parcel.data) > 0 {
		p.queue <- parcel // the writer takes parcels until the end
	}
}

func (p *pipe) end() { close(p.queue) }

// parcels yields each parcel when it is due, up to the end.
func (p *pipe) parcels() iter.Seq[parcel] {
	return func(yield func(parcel) bool) {
		for parcel := range p.queue {
			p.wait(parcel.due)
			if !yield(parcel) {
				return
			}
		}
	}
}

// write drops what can no longer be written: the other end of the pipe goes on
// until it learns by itself that the connection is over.
func (p *pipe) write(parcel parcel) {
	if !p.failed {
		_, err := p.out.Write(parcel.data)
		p.failed = err != nil
	}
}

// timerPrecision is how late a timer of the Go runtime may be.
const timerPrecision = 2 * time.Millisecond

func (p *pipe) wait(due time.Time) {
	if due.IsZero() {
		return
	}
	if rest := time.Until(due) - timerPrecision; rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.killed:
			return
		}
	}
	for rest := time.Until(due); rest > 0; rest = time.Until(due) {
		pause(rest)
	}
}
