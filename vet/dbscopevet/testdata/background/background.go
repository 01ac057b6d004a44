package background

import (
	"context"
	"net/http"

	"shop/store"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var (
	shop    = sqlscope.Open("sqlite", "shop.db")
	outside = sqlscope.Open("sqlite", "shop.db", dbscope.AllowUnscoped())
	handle  = shop.SQL()
)

type service struct{ db *sqlscope.DB }

func (s *service) atHand(ctx context.Context) error {
	if _, err := s.db.ExecContext(context.Background(), "a"); err != nil { // want `context.Background\(\) has no scope`
		return err
	}
	if err := store.Place(context.TODO(), "tea"); err != nil { // want `context.TODO\(\) has no scope`
		return err
	}
	free := context.WithoutCancel(context.Background())
	_, err := s.db.ExecContext(free, "a") // want `free has no scope`
	return err
}

func (s *service) handler(w http.ResponseWriter, r *http.Request) {
	_ = store.Place(context.Background(), "tea") // want `context.Background\(\) has no scope`
}

func (s *service) start() error {
	if _, err := s.db.ExecContext(context.Background(), "a"); err != nil { // it may have AllowUnscoped
		return err
	}
	if _, err := outside.ExecContext(context.Background(), "a"); err != nil {
		return err
	}
	if err := s.db.Commit(context.Background()); err != nil { // want `context.Background\(\) has no scope`
		return err
	}
	_, err := shop.ExecContext(context.Background(), "a") // want `context.Background\(\) has no scope`
	return err
}

func (s *service) own() error {
	if err := store.Begins(context.Background()); err != nil {
		return err
	}
	if err := store.Joins(context.Background()); err != nil {
		return err
	}
	return dbscope.Run(context.Background(), func(ctx context.Context) error { return store.Place(ctx, "tea") })
}

func (s *service) stop(ctx context.Context) error {
	return s.db.SwitchHost(context.Background(), "b")
}

func contextless(ctx context.Context) error {
	if _, err := handle.Exec("a", 1); err != nil { // want `Exec runs under context.Background, which has no scope: use ExecContext`
		return err
	}
	if _, err := outside.SQL().Exec("a"); err != nil {
		return err
	}
	tx, err := shop.SQL().Begin() // want `Begin runs under context.Background, which has no scope: use BeginTx`
	if err != nil {
		return err
	}
	return tx.Rollback()
}

func contextlessAtStart() {
	shop.SQL().QueryRow("a") // want `use QueryRowContext`
}

func either(ctx context.Context, later bool) error {
	if later {
		ctx = context.Background()
	}
	return store.Place(ctx, "tea")
}
