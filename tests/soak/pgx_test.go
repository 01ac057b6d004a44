package soak_test

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
)

// native does what only pgx can, on another database the same in statements.
func (c *call) native(rows int, do func(g *group) error) error {
	g := c.u.group(c.db, rows)
	if c.db.pgx == nil {
		return c.fill(c.ctx, g)
	}
	return do(g)
}

func copyRows(c *call) error {
	return c.native(20, func(g *group) error {
		n, err := c.db.pgx.CopyFrom(c.ctx, pgx.Identifier{"soak"}, []string{"unit", "number", "part"},
			pgx.CopyFromSlice(g.rows, func(part int) ([]any, error) { return []any{c.u.id, g.number, part}, nil }))
		if err == nil && n != int64(g.rows) {
			err = errors.New("not all rows were copied")
		}
		return err
	})
}

func batchRows(c *call) error {
	return c.native(5, func(g *group) error {
		var b pgx.Batch
		for part := range g.rows {
			b.Queue(insertText, c.u.id, g.number, part)
		}
		return c.db.pgx.SendBatch(c.ctx, &b).Close()
	})
}

// largeObject leaves no object behind.
func largeObject(c *call) error {
	return c.native(1, func(g *group) (err error) {
		tx, err := c.db.pgx.Session(c.ctx)
		if err != nil {
			return err
		}
		// pgx has no way to return an error here, and its methods panic then.
		if _, err := tx.Exec(c.ctx, "SELECT"); err != nil {
			return err
		}
		objects := tx.LargeObjects()
		id, err := objects.Create(c.ctx, 0)
		if err != nil {
			return err
		}
		object, err := objects.Open(c.ctx, id, pgx.LargeObjectModeWrite)
		if err != nil {
			return err
		}
		_, err = object.Write([]byte(strings.Repeat("x", 10_000)))
		if err = errors.Join(err, objects.Unlink(c.ctx, id)); err != nil {
			return err
		}
		return c.fill(c.ctx, g)
	})
}

func nestedTx(c *call) error {
	return c.native(2, func(g *group) error {
		outer, err := c.db.pgx.Session(c.ctx)
		if err != nil {
			return err
		}
		undone := c.u.group(c.db, 1)
		undone.fate = absent
		if err := c.db.insert(c.ctx, c.u, g, 0); err != nil {
			return err
		}
		tx, err := outer.Begin(c.ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(c.ctx, insertText, c.u.id, undone.number, 0)
		if err = errors.Join(err, tx.Rollback(c.ctx)); err != nil {
			return err
		}
		return c.db.insert(c.ctx, c.u, g, 1)
	})
}
