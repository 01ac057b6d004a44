package pgxscope

import "context"

// kept are the statements that were prepared on a connection outside of units and stay
// there, with the time of their last use. As in pgx's own cache of the texts that it
// is given, those used longest ago make room for others.
type kept struct {
	used  map[string]uint64
	clock uint64
}

const keptKey = wireKey + ".kept"

func (c *conn) kept() *kept {
	data := c.PgConn().CustomData()
	k, _ := data[keptKey].(*kept)
	if k == nil {
		k = &kept{used: map[string]uint64{}}
		data[keptKey] = k
	}
	return k
}

// KeepStatement implements [sqlscope.StatementKeeper]. pgx finds what it has prepared
// by its text.
func (c *conn) KeepStatement(ctx context.Context, query string) bool {
	if c.keeps <= 0 {
		return false
	}
	c.wire.raw = nil // it counts the uses of a statement that are not closed, and the next one may have to close this
	k := c.kept()
	if _, known := k.used[query]; !known && len(k.used) >= c.keeps {
		oldest := k.oldest()
		delete(k.used, oldest)
		_ = c.Deallocate(ctx, oldest) // if the connection is lost the statement says so
	}
	k.clock++
	k.used[query] = k.clock
	return true
}

func (k *kept) oldest() (query string) {
	first := k.clock + 1
	for q, used := range k.used {
		if used < first {
			query, first = q, used
		}
	}
	return query
}

// ForgetStatement implements [sqlscope.StatementKeeper].
func (c *conn) ForgetStatement(query string) { delete(c.kept().used, query) }
