package dbscope

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dbscope/dbscope/internal/errs"
)

// RetryPolicy says how often, and after what waits, a unit of work is run
// again. The zero value is the default of each field.
type RetryPolicy struct {
	Attempts int           // the first included; the default is 5
	MinDelay time.Duration // before the second attempt, doubled for each further one; the default is 10 ms
	MaxDelay time.Duration // the longest wait; the default is 1 s
}

// wait blocks before the attempt after the given one. Where there is none it
// returns the error to report, else nil.
func (p *RetryPolicy) wait(ctx context.Context, attempt int, err error) error {
	if attempt >= p.Attempts {
		return fmt.Errorf("dbscope: %d attempts failed, the last with: %w", attempt, err)
	}
	delay := p.MinDelay
	for n := 1; n < attempt && delay < p.MaxDelay; n++ {
		delay = min(2*delay, p.MaxDelay)
	}
	delay = min(delay, p.MaxDelay)
	timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errs.Joined(err, fmt.Errorf("dbscope: no further attempt: %w", errs.Interrupted(ctx)))
	}
}
