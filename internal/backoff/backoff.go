// Package backoff waits before a unit of work is run again.
package backoff

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dbscope/dbscope/internal/errs"
)

// Policy is dbscope.RetryPolicy with its defaults filled in.
type Policy struct {
	Attempts           int
	MinDelay, MaxDelay time.Duration
}

// Wait blocks before the attempt after the given one, which failed with err. Where
// there is none it returns the error to report, else nil.
func (p *Policy) Wait(ctx context.Context, attempt int, err error) error {
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
