package sqlscope_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// The session is ended before, during or after its COMMIT: what the unit is told
// is what the table holds, or that nobody knows.
func TestNoVerdictIsWrongWhateverTheMomentInWhichTheSessionEnds(t *testing.T) {
	for driver, c := range map[string]struct {
		dsn      string
		id, kill string
	}{
		"pgx":           {pgtest.Shared(t).CreateDatabase(t), "SELECT pg_backend_pid()", "SELECT pg_terminate_backend($1)"},
		"postgres":      {pgtest.Shared(t).CreateDatabase(t), "SELECT pg_backend_pid()", "SELECT pg_terminate_backend($1)"},
		"mysql":         {mariatest.Shared(t).CreateDatabase(t), "SELECT connection_id()", "KILL ?"},
		"mysql with $1": {mariatest.Shared(t).CreateDatabase(t), "SELECT connection_id()", "KILL $1"},
	} {
		t.Run(driver, func(t *testing.T) {
			d := openOn(t, driver, c.dsn)
			verdicts := map[string]int{}
			for i := range 100 {
				row := strconv.Itoa(i)
				v := &victim{opened: d}
				killed := make(chan struct{})
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, "INSERT INTO t (id) VALUES ("+row+")")
					ok(t, err)
					ok(t, d.QueryRowContext(ctx, c.id).Scan(&v.id))
					go func() {
						defer close(killed)
						time.Sleep(rand.N(2 * time.Millisecond))
						_, _ = d.other.Exec(c.kill, v.id) // which may be gone
					}()
					time.Sleep(rand.N(time.Millisecond))
					return nil
				})
				<-killed
				v.ends(t)
				stored := 0
				ok(t, d.other.QueryRow("SELECT count(*) FROM t WHERE id = "+row).Scan(&stored))
				switch rolledBack, unknown := errors.Is(err, dbscope.ErrRolledBack), errors.Is(err, dbscope.ErrCommitUnknown); {
				case err == nil && stored == 1:
					verdicts["committed"]++
				case rolledBack && !unknown && stored == 0:
					verdicts["rolled back"]++
				case unknown && !rolledBack:
					verdicts["unknown"]++
				default:
					t.Fatalf("%d rows are stored, and the unit's error is %v", stored, err)
				}
			}
			t.Log(verdicts)
		})
	}
}
