package soak_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dbscope/dbscope"
)

// call is a request in its handler.
type call struct {
	ctx    context.Context
	w      http.ResponseWriter
	r      *http.Request
	u      *unit
	db     *database
	second *database // after db in the order in which all use them
	s      *service
}

// kinds are what the requests do. An error becomes a 503.
var kinds = map[string]func(c *call) error{
	"one statement":          func(c *call) error { return c.store(c.db, 1) },
	"several statements":     func(c *call) error { return c.store(c.db, 4) },
	"a slow statement":       slowStatement,
	"two databases":          func(c *call) error { return errors.Join(c.store(c.db, 2), c.store(c.second, 2)) },
	"nested blocks":          nestedBlocks,
	"group":                  functionsOfGroup,
	"commit together":        commitTogether,
	"hooks":                  hooks,
	"early commit":           earlyCommit,
	"early release":          earlyRelease,
	"rolled back by status":  rolledBackByStatus,
	"marked to roll back":    markedRollback,
	"panic":                  panics,
	"goexit":                 exits,
	"error ignored":          errorIgnored,
	"own deadline":           ownDeadline,
	"conflict":               conflict,
	"conflict/of requests":   conflictOfRequests,
	"unscoped":               unscoped,
	"plain database/sql":     plainSQL,
	"rows left open":         rowsLeftOpen,
	"goroutine left behind":  goroutineLeftBehind,
	"stream of writes":       streamOfWrites,
	"stream of reads":        streamOfReads,
	"unit in a unit":         unitInUnit,
	"state is left":          stateIsLeft,
	"read only":              readOnly,
	"pgx: copy":              copyRows,
	"pgx: batch":             batchRows,
	"pgx: large object":      largeObject,
	"pgx: nested":            nestedTx,
	"nothing":                func(*call) error { return nil },
	"a client that gives up": slowStatement,
}

// fails has the kinds that are never done, or hardly ever.
var fails = map[string]bool{"rolled back by status": true, "panic": true, "goexit": true, "a client that gives up": true}

// store inserts a group of rows, which the request's end decides.
func (c *call) store(db *database, rows int) error {
	return c.fill(c.ctx, c.u.group(db, rows))
}

func (c *call) fill(ctx context.Context, g *group) error {
	for part := range g.rows {
		if err := g.db.insert(ctx, c.u, g, part); err != nil {
			return err
		}
	}
	return nil
}

// run is a unit of its own with a group of so many rows.
func (c *call) run(ctx context.Context, db *database, rows int, opts ...dbscope.Option) error {
	g := c.u.group(db, rows)
	g.fate = absent
	err := dbscope.Run(ctx, func(ctx context.Context) error { return c.fill(ctx, g) }, opts...)
	g.ended(err)
	return err
}

func slowStatement(c *call) error {
	g := c.u.group(c.db, 2)
	if err := c.db.insert(c.ctx, c.u, g, 0); err != nil {
		return err
	}
	if _, err := c.db.count(c.ctx, c.db.slow); err != nil {
		return err
	}
	return c.db.insert(c.ctx, c.u, g, 1)
}

var errUndo = errors.New("undo this block")

func nestedBlocks(c *call) error {
	outer, undone := c.u.group(c.db, 3), c.u.group(c.db, 2)
	undone.fate = absent
	if err := c.db.insert(c.ctx, c.u, outer, 0); err != nil {
		return err
	}
	err := c.db.Atomic(c.ctx, func(ctx context.Context) error {
		if err := c.fill(ctx, undone); err != nil {
			return err
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return fmt.Errorf("the block was not undone: %w", err)
	}
	return c.db.Atomic(c.ctx, func(ctx context.Context) error {
		if err := c.db.insert(ctx, c.u, outer, 1); err != nil {
			return err
		}
		return c.db.Atomic(ctx, func(ctx context.Context) error { return c.db.insert(ctx, c.u, outer, 2) })
	})
}

// functionsOfGroup stores each function's rows on their own.
func functionsOfGroup(c *call) error {
	all := dbscope.NewGroup(c.ctx)
	all.SetLimit(2)
	groups := make([]*group, 3)
	for i := range groups {
		g := c.u.group(c.db, 2)
		groups[i], g.fate = g, either
		all.Go(func(ctx context.Context) error {
			err := c.fill(ctx, g)
			if err != nil {
				g.fate = absent
			}
			return err
		})
	}
	err := all.Wait()
	if err == nil {
		for _, g := range groups {
			g.fate = stored
		}
	}
	return err
}

func commitTogether(c *call) error {
	all := dbscope.NewGroup(c.ctx)
	all.CommitTogether()
	var groups []*group
	for _, db := range []*database{c.db, c.second} {
		g := c.u.group(db, 2)
		g.fate = absent
		groups = append(groups, g)
		all.Go(func(ctx context.Context) error { return c.fill(ctx, g) })
	}
	err := all.Wait()
	for _, g := range groups {
		g.ended(err)
	}
	return err
}

func hooks(c *call) error {
	g, after, undone := c.u.group(c.db, 2), c.u.group(c.db, 1), c.u.group(c.db, 1)
	after.fate, undone.fate = absent, absent
	err := errors.Join(
		c.db.insert(c.ctx, c.u, g, 0),
		c.db.BeforeCommit(c.ctx, func(ctx context.Context) error { return c.db.insert(ctx, c.u, g, 1) }),
		c.db.AfterCommit(c.ctx, func(ctx context.Context) error {
			after.fate = either // until its own commit
			return c.run(ctx, c.db, 1)
		}),
		c.db.AfterCommit(c.ctx, func(ctx context.Context) error {
			after.fate = either
			return c.fill(ctx, after)
		}),
		c.db.AfterRollback(c.ctx, func(ctx context.Context) error {
			undone.fate = either
			return c.fill(ctx, undone)
		}))
	return err
}

func earlyCommit(c *call) error {
	for range 2 {
		g := c.u.group(c.db, 2)
		if err := c.fill(c.ctx, g); err != nil {
			return err
		}
		err := c.db.Commit(c.ctx)
		g.ended(err)
		if err != nil {
			return err
		}
	}
	return c.store(c.db, 1)
}

func earlyRelease(c *call) error {
	g := c.u.group(c.db, 1)
	g.fate = absent
	if err := c.fill(c.ctx, g); err != nil {
		return err
	}
	if err := c.db.Release(c.ctx); err != nil {
		return err
	}
	return c.store(c.db, 1)
}

// errAnswered is returned where the handler has answered.
var errAnswered = errors.New("answered")

// countedNumber is added to the number of groups whose rows are counted in the
// database, too.
const countedNumber = 100

// countUp reads a counter, and stores the next number with a row.
func (c *call) countUp(ctx context.Context, g *group) error {
	one := int(c.u.id % 2)
	var n int64
	h := c.db.SQL()
	if err := h.QueryRowContext(ctx, fmt.Sprintf("SELECT n FROM counter WHERE id = %d", one)).Scan(&n); err != nil {
		return err
	}
	if err := c.db.exec(ctx, c.db.statement("UPDATE counter SET n = $1 WHERE id = $2"), n+1, one); err != nil {
		return err
	}
	return c.fill(ctx, g)
}

func (c *call) counted() *group {
	g := c.u.group(c.db, 1)
	g.number += countedNumber
	return g
}

// conflict is one of several units that cannot run side by side.
func conflict(c *call) error {
	g := c.counted()
	g.fate = absent
	opts := []dbscope.Option{dbscope.Retry(dbscope.RetryPolicy{Attempts: 8, MinDelay: time.Millisecond})}
	if !c.db.sqlite {
		opts = append(opts, dbscope.Isolation(sql.LevelSerializable))
	}
	err := dbscope.Run(c.ctx, func(ctx context.Context) error { return c.countUp(ctx, g) }, opts...)
	g.ended(err)
	return err
}

// conflictOfRequests is the same with the request as the unit.
func conflictOfRequests(c *call) error { return c.countUp(c.ctx, c.counted()) }

func unscoped(c *call) error {
	g := c.u.group(c.db, 1)
	g.fate = either // its answer may be lost, and nobody says so
	err := c.fill(dbscope.WithoutScope(c.ctx), g)
	if err == nil {
		g.fate = stored
	}
	return err
}

func plainSQL(c *call) error {
	g, undone := c.u.group(c.db, 3), c.u.group(c.db, 1)
	undone.fate = absent
	db, insert := c.db.SQL(), c.db.statement(insertText)
	if _, err := db.ExecContext(c.ctx, insert, c.u.id, g.number, 0); err != nil {
		return err
	}
	prepared, err := db.PrepareContext(c.ctx, insert)
	if err != nil {
		return err
	}
	_, err = prepared.ExecContext(c.ctx, c.u.id, g.number, 1)
	if err = errors.Join(err, prepared.Close()); err != nil {
		return err
	}
	for _, block := range []struct {
		g    *group
		part int
	}{{undone, 0}, {g, 2}} {
		tx, err := db.BeginTx(c.ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(c.ctx, insert, c.u.id, block.g.number, block.part)
		if err == nil && block.g == g {
			err = tx.Commit()
		} else {
			err = errors.Join(err, tx.Rollback())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func streamOfWrites(c *call) error {
	g := c.u.group(c.db, 2)
	if err := c.fill(c.ctx, g); err != nil {
		return err
	}
	c.answer(http.StatusOK)
	if http.NewResponseController(c.w).Flush() != nil {
		return errAnswered
	}
	g.fate = stored
	g = c.u.group(c.db, 1)
	g.late = true
	if c.fill(c.ctx, g) != nil { // too late for another status
		g.fate = absent
	}
	return errAnswered
}

// streamOfReads sends more than a response that is held may be.
func streamOfReads(c *call) error {
	n, err := c.db.count(c.ctx, "SELECT text FROM filler")
	if err != nil {
		return err
	}
	c.answer(http.StatusOK)
	for range n {
		if _, err := fmt.Fprintf(c.w, "%0500d\n", n); err != nil {
			break
		}
	}
	return errAnswered
}

func unitInUnit(c *call) error {
	if c.db.sqlite { // where the outer unit has the only writer's lock
		return c.run(c.ctx, c.db, 1)
	}
	if err := c.store(c.db, 1); err != nil {
		return err
	}
	return c.run(c.ctx, c.db, 2)
}

// stateIsLeft leaves a lock of its session, and looks for that of others.
func stateIsLeft(c *call) error {
	if !c.db.resets {
		return c.store(c.db, 1)
	}
	n, err := c.db.count(c.ctx, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
	if err != nil {
		return err
	}
	if n != 0 {
		c.s.fail(fmt.Errorf("%s: unit %d has met the lock of another one on its connection", c.db.name, c.u.id))
	}
	if err := c.db.exec(c.ctx, "SELECT pg_advisory_lock_shared(1)"); err != nil {
		return err
	}
	return c.store(c.db, 1)
}

func readOnly(c *call) error {
	return dbscope.Run(c.ctx, func(ctx context.Context) error {
		_, err := c.db.count(ctx, "SELECT text FROM filler")
		return err
	}, dbscope.ReadOnly())
}
