package watch

import (
	"context"
	"sync"

	"github.com/dbscope/dbscope/observe"
)

// DB is one DB in a unit, or outside of units.
type DB struct {
	above observe.Observer // of the unit, or of the DB
	unit  *Unit            // nil outside of units
	event observe.Event    // what all events have

	mu    sync.Mutex
	taken []Op // connections
}

// Outside returns the DB for a statement outside of units, nil where it has no observer.
func Outside(name string, observers []observe.Observer) *DB {
	if len(observers) == 0 {
		return nil
	}
	return &DB{above: observe.Together(observers...), event: observe.Event{DB: name}}
}

func (d *DB) of(kind observe.Kind) observe.Event {
	e := d.event
	if e.Kind = kind; d.unit != nil {
		e.Name = d.unit.Name()
	}
	return e
}

// Took tells that a connection of the host was taken.
func (d *DB) Took(ctx context.Context, host string, connections, most int) {
	if d == nil {
		return
	}
	e := d.of(observe.Connection)
	e.Host, e.Connections, e.MaxConnections = host, connections, most
	_, op := Start(ctx, d.above, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = append(d.taken, op)
}

// Gave tells that a connection is about to be given back. There is hardly ever more than
// one, and then they are much alike.
func (d *DB) Gave() {
	if d == nil {
		return
	}
	d.mu.Lock()
	var op Op
	if last := len(d.taken) - 1; last >= 0 {
		op, d.taken = d.taken[last], d.taken[:last]
	}
	d.mu.Unlock()
	op.End(observe.None, nil)
}

// Session returns one session on the DB.
func (d *DB) Session() *Session {
	if d == nil {
		return nil
	}
	return &Session{db: d}
}
