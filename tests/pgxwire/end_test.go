package pgxwire

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// An end that nobody waits for, and that has gone wrong, is found out before the next
// unit on the connection has any result. What that unit did is not stored with what was
// left over, and the one after it has another connection.
func TestAnEndThatWentWrongUnseenLosesItsConnectionAndNothingElse(t *testing.T) {
	for _, how := range []endFailure{endRefused, endNoEnd, endFatal} {
		for name, first := range map[string]func(ctx context.Context, db *pgxscope.DB) error{
			"a read-only unit": func(ctx context.Context, db *pgxscope.DB) error {
				return dbscope.Run(ctx, func(ctx context.Context) error { return exec1(ctx, db, "select /*u0s0*/ 1") }, dbscope.ReadOnly())
			},
			"a rollback": func(ctx context.Context, db *pgxscope.DB) error {
				err := dbscope.Run(ctx, func(ctx context.Context) error {
					return errors.Join(exec1(ctx, db, "insert /*u0s1*/ 1"), errUndone)
				})
				if errors.Is(err, errUndone) {
					return nil
				}
				return err
			},
		} {
			t.Run(name+", "+string(how), func(t *testing.T) {
				s := newServer(program{units: []unit{{statements: []statement{
					{tag: "u0s0", rows: 1}, {tag: "u0s1", kind: simpleExec}, {tag: "u0s2", kind: simpleExec}, {tag: "u0s3", kind: simpleExec},
				}}}})
				s.endFails = how
				db := openOn(t, s)
				ctx := t.Context()
				if err := first(ctx, db); err != nil {
					t.Errorf("the unit itself: %v", err)
				}
				second := dbscope.Run(ctx, func(ctx context.Context) error { return exec1(ctx, db, "insert /*u0s2*/ 1") })
				if err := dbscope.Run(ctx, func(ctx context.Context) error { return exec1(ctx, db, "insert /*u0s3*/ 1") }); err != nil {
					t.Errorf("the unit after the next: %v", err)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if slices.Contains(s.stored, "u0s1") {
					t.Error("what was rolled back is stored")
				}
				if slices.Contains(s.stored, "u0s2") != (second == nil) {
					t.Errorf("stored is %v, and the unit ended with %v", s.stored, second)
				}
				if !slices.Contains(s.stored, "u0s3") || len(s.outside) > 0 {
					t.Errorf("stored is %v, and outside of transactions ran %v", s.stored, s.outside)
				}
			})
		}
	}
}

func exec1(ctx context.Context, db *pgxscope.DB, text string) error {
	_, err := db.Exec(ctx, text)
	return err
}
