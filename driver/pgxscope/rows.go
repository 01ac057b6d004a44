package pgxscope

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var _ sqlscope.Bounded = (*conn)(nil)

// rows are pgx's while they occupy the session.
type rows struct {
	pgx.Rows
	t    tx
	c    *conn
	ctx  context.Context
	over bool
	err  error // once over
}

func newRows(ctx context.Context, t tx, c *conn, raw pgx.Rows) *rows {
	r := &rows{Rows: raw, t: t, c: c, ctx: ctx}
	t.s.Hold(rawRows{r})
	return r
}

// rawRows is what the core closes when the transaction ends first.
type rawRows struct{ r *rows }

// Close implements [driver.Rows].
func (raw rawRows) Close(ctx context.Context) error { return raw.r.c.Within(ctx, raw.r.close) }

// close reads what is left of the rows.
func (r *rows) close() error {
	r.Rows.Close()
	return r.Rows.Err()
}

// Within implements [sqlscope.Bounded]: the network connection keeps ctx's
// deadline meanwhile. One that comes to it is closed, and pgx then asks the server
// to cancel what it still does.
func (c *conn) Within(ctx context.Context, read func() error) error {
	free := c.bound(ctx)
	err := read()
	switch {
	case !c.IsClosed() && (err == nil || ctx.Err() == nil):
		free()
	case !c.IsClosed():
		c.abandon()
	}
	return late(ctx, err)
}

// Next implements [pgx.Rows].
func (r *rows) Next() bool {
	if r.over || !r.resume() {
		return false
	}
	if r.Rows.Next() {
		r.t.s.Hold(rawRows{r})
		return true
	}
	r.finish()
	return false
}

// resume takes the session for a read, or ends the rows with its refusal.
func (r *rows) resume() bool {
	if err := r.t.s.Resume(rawRows{r}); err != nil {
		r.over, r.err = true, closed(err)
		return false
	}
	return true
}

// finish closes the rows of a session that is taken.
func (r *rows) finish() {
	r.over = true
	done := true
	r.err = r.close()
	r.t.exit(r.ctx, r.c, &done, &r.err)
}

// Close implements [pgx.Rows].
func (r *rows) Close() {
	if !r.over && r.resume() {
		r.finish()
	}
}

// Err implements [pgx.Rows].
func (r *rows) Err() error {
	if r.over {
		return r.err
	}
	return r.Rows.Err()
}

// Scan implements [pgx.Rows].
func (r *rows) Scan(dest ...any) error {
	if r.over && r.err != nil {
		return r.err
	}
	return r.Rows.Scan(dest...)
}

// failedRows are those of a query that was refused.
func failedRows(err error) pgx.Rows {
	refused, _ := pgx.FailedBatchResults(&pgx.Batch{}, err).Query()
	return refused
}

// row is the first of some rows.
type row struct{ rows pgx.Rows }

// Scan implements [pgx.Row].
func (r row) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// SendBatch runs a batch.
func (t tx) SendBatch(ctx context.Context, b *pgx.Batch) (res pgx.BatchResults) {
	texts := make([]string, 0, len(b.QueuedQueries))
	for _, q := range b.QueuedQueries {
		texts = append(texts, q.SQL)
	}
	c, err := t.enter(ctx, texts...)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	if len(texts) > 0 {
		ctx = t.observed(ctx, driver.Statement{Text: texts[0], Count: len(texts)})
	}
	done := false
	defer func() {
		if !done || err != nil {
			t.exit(ctx, c, &done, &err)
			if done {
				res = pgx.FailedBatchResults(&pgx.Batch{}, err)
			}
		}
	}()
	var raw pgx.BatchResults
	if err = c.ready(ctx); err == nil {
		raw, err = c.sendBatch(ctx, b)
	}
	done = true
	if err != nil {
		return nil
	}
	r := &batchResults{BatchResults: raw, t: t, c: c, ctx: ctx}
	t.s.Hold(rawBatch{r})
	return r
}

// batchResults are pgx's while they occupy the session.
type batchResults struct {
	pgx.BatchResults
	t    tx
	c    *conn
	ctx  context.Context
	over bool
	err  error // once over
}

type rawBatch struct{ r *batchResults }

// Close implements [driver.Rows].
func (raw rawBatch) Close(ctx context.Context) error {
	return raw.r.c.Within(ctx, raw.r.BatchResults.Close)
}

// read has the session to itself.
func (r *batchResults) read(read func() error) error {
	if r.over {
		return r.BatchResults.Close()
	}
	if err := r.t.s.Resume(rawBatch{r}); err != nil {
		r.over, r.err = true, closed(err)
		return r.err
	}
	err := read()
	r.t.s.Hold(rawBatch{r})
	return err
}

// Exec implements [pgx.BatchResults].
func (r *batchResults) Exec() (tag pgconn.CommandTag, err error) {
	err = r.read(func() error {
		tag, err = r.BatchResults.Exec()
		return err
	})
	return tag, err
}

// Query implements [pgx.BatchResults].
func (r *batchResults) Query() (pgx.Rows, error) {
	var raw pgx.Rows
	err := r.read(func() (err error) {
		raw, err = r.BatchResults.Query()
		return err
	})
	if err != nil {
		return failedRows(err), err
	}
	return &batchRows{raw, r}, nil
}

// QueryRow implements [pgx.BatchResults].
func (r *batchResults) QueryRow() pgx.Row {
	rows, _ := r.Query() // the row has the error
	return row{rows}
}

// Tx implements [pgx.BatchResults]: the batch has begun none.
func (r *batchResults) Tx() pgx.Tx { return nil }

// Close implements [pgx.BatchResults].
func (r *batchResults) Close() (err error) {
	if r.over {
		return r.err
	}
	if err := r.t.s.Resume(rawBatch{r}); err != nil {
		r.over, r.err = true, closed(err)
		return r.err
	}
	r.over = true
	done := false
	defer func() {
		r.t.exit(r.ctx, r.c, &done, &err)
		r.err = err
	}()
	err = r.BatchResults.Close()
	done = true
	return err
}

// batchRows are one query's of a batch.
type batchRows struct {
	pgx.Rows
	r *batchResults
}

// Next implements [pgx.Rows].
func (b *batchRows) Next() (more bool) {
	_ = b.r.read(func() error { more = b.Rows.Next(); return nil })
	return more
}

// Close implements [pgx.Rows].
func (b *batchRows) Close() {
	_ = b.r.read(func() error { b.Rows.Close(); return nil })
}
