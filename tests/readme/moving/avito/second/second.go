// Package second has avito's interface without its manager.
package second

import (
	"context"

	"github.com/avito-tech/go-transaction-manager/trm/v2"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// units is a trm.Manager whose Do joins the unit that is there, or begins one.
type units struct{}

func (units) Do(ctx context.Context, fn func(context.Context) error) error {
	return dbscope.Join(ctx, fn)
}

func (units) DoWithSettings(ctx context.Context, _ trm.Settings, fn func(context.Context) error) error {
	return dbscope.Join(ctx, fn) // what each setting becomes: see the table
}

// Orders is a repository.
type Orders struct{ db *pgxscope.DB }

// Store has nothing to remember.
func (o *Orders) Store(ctx context.Context, item string) error {
	_, err := o.db.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, item)
	return err
}

var _ trm.Manager = units{}
