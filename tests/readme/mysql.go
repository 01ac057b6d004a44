package readme

import (
	"context"

	"github.com/dbscope/dbscope/driver/sqlscope"
)

var parts = sqlscope.Open("mysql", "app@tcp(127.0.0.1:3306)/parts?max_statement_time=30")

// Outside of any unit.
func createParts(ctx context.Context) error {
	pool, err := parts.Engine(ctx)
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS part (id BIGINT PRIMARY KEY)")
	return err
}

var _ = createParts
