package sqlscope

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"runtime"
	"sync"
)

// owner is the user's end of rows: a *sql.Rows or a *sql.Row, which keeps a
// connection of database/sql until it is closed. The end of the unit does not
// close it, since one that is read later, or by another goroutine meanwhile, has
// to tell why there are no more rows. Where the unit has left it open it is closed
// when nobody can read it any more.
type owner struct {
	mu   sync.Mutex
	user any
	over bool // the unit has left the rows open
}

func (o *owner) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.user, o.over = nil, false
}

func (o *owner) is(user any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.user = user
	o.collect()
}

func (o *owner) left() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	o.collect()
}

// collect leaves the user's end to the garbage collector. The caller holds mu.
func (o *owner) collect() {
	if !o.over {
		return
	}
	switch user := o.user.(type) {
	case *sql.Rows:
		runtime.SetFinalizer(user, func(r *sql.Rows) { _ = r.Close() })
	case *sql.Row:
		runtime.SetFinalizer(user, func(r *sql.Row) { _ = r.Scan() }) // which closes its rows
	}
	o.user = nil
}

// asked is the context of a query, and brings back its rows.
type asked struct {
	silent
	rows *rows // nil where it failed
}

// answered notes the rows of a query.
func answered(ctx context.Context, r *sqldriver.Rows) {
	if a, ok := ctx.(*asked); ok {
		a.rows, _ = (*r).(*rows)
	}
}

// belongsTo says what the user has got.
func (a *asked) belongsTo(user any) {
	if a.rows != nil {
		a.rows.owner.is(user)
	}
}
