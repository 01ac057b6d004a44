package readme

import (
	"context"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

func repeat(ctx context.Context, every time.Duration, job func(context.Context) error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := dbscope.Run(ctx, job); err != nil {
				slog.ErrorContext(ctx, "the job was undone", "error", err)
			}
		}
	}
}

// inUnit makes each message a unit of work: router.AddMiddleware(inUnit).
func inUnit(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (produced []*message.Message, err error) {
		outer := msg.Context()
		defer msg.SetContext(outer)
		err = dbscope.Run(outer, func(ctx context.Context) error {
			msg.SetContext(ctx)
			produced, err = h(msg)
			return err
		})
		return produced, err // a failed commit is an error too: the message comes again
	}
}

type warehouse struct{ db *sqlscope.DB }

// receive is a message.NoPublishHandlerFunc. A message counts once, however
// often it comes: its id is stored with its work, or neither is.
func (w *warehouse) receive(msg *message.Message) error {
	ctx := msg.Context()
	result, err := w.db.ExecContext(ctx, `INSERT INTO received (id) VALUES (?) ON CONFLICT DO NOTHING`, msg.UUID)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err // 0: it was here before
	}
	_, err = w.db.ExecContext(ctx, `UPDATE stock SET n = n + 1 WHERE item = ?`, string(msg.Payload))
	return err
}

type packArgs struct {
	Order int64 `json:"order"`
}

func (packArgs) Kind() string { return "pack" }

type parcels struct {
	db   *pgxscope.DB
	jobs *river.Client[pgx.Tx]
}

// order stores an order and the job to pack it, or neither.
func (p *parcels) order(ctx context.Context, item string) error {
	var id int64
	if err := p.db.QueryRow(ctx, `INSERT INTO orders (item) VALUES ($1) RETURNING id`, item).Scan(&id); err != nil {
		return err
	}
	tx, err := p.db.Session(ctx) // the pgx.Tx itself
	if err != nil {
		return err
	}
	_, err = p.jobs.InsertTx(ctx, tx, packArgs{id}, nil)
	return err
}

type packer struct {
	river.WorkerDefaults[packArgs]
	db *pgxscope.DB
}

// Work packs an order and ends the job, or does neither.
func (p *packer) Work(ctx context.Context, job *river.Job[packArgs]) error {
	return dbscope.Run(ctx, func(ctx context.Context) error {
		if _, err := p.db.Exec(ctx, `UPDATE orders SET packed = packed + 1 WHERE id = $1`, job.Args.Order); err != nil {
			return err
		}
		tx, err := p.db.Session(ctx)
		if err != nil {
			return err
		}
		_, err = river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

// newRiver opens the pool, which river shares with the DB.
func newRiver(ctx context.Context, db *pgxscope.DB, config *river.Config) (*river.Client[pgx.Tx], error) {
	pool, err := db.Pool(ctx)
	if err != nil {
		return nil, err
	}
	return river.NewClient(riverpgxv5.New(pool), config)
}

var eachJobInUnit = river.WorkerMiddlewareFunc(
	func(ctx context.Context, _ *rivertype.JobRow, work func(context.Context) error) error {
		return dbscope.Run(ctx, work)
	})
