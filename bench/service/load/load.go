package load

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Clients are connections to one service that send one kind of request.
type Clients struct {
	all []*client
}

// Dial makes n connections.
func Dial(addr, work string, n int) (*Clients, error) {
	c := &Clients{}
	for i := range n {
		one, err := dial(addr, work, i)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.all = append(c.all, one)
	}
	return c, nil
}

// Close closes them.
func (c *Clients) Close() error {
	var all []error
	for _, one := range c.all {
		all = append(all, one.conn.Close())
	}
	return errors.Join(all...)
}

// Result is what a run of some time has brought.
type Result struct {
	Took  time.Duration
	Times []time.Duration // of each request, sorted
}

// Closed lets each client send its next request as soon as it has the answer
// to the one before, for a time.
func (c *Clients) Closed(d time.Duration) (Result, error) {
	return c.run(func(one *client, _ int, start time.Time) ([]time.Duration, error) {
		var times []time.Duration
		for before := start; before.Sub(start) < d; {
			if err := one.do(); err != nil {
				return nil, err
			}
			now := time.Now()
			times = append(times, now.Sub(before))
			before = now
		}
		return times, nil
	})
}

// Open sends requests at a rate, whatever the service does. The time of each
// counts from when it was to be sent, so that one who has to wait for a client
// to be free has waited.
func (c *Clients) Open(perSecond float64, d time.Duration) (Result, error) {
	interval := time.Duration(float64(time.Second) / perSecond)
	step := interval * time.Duration(len(c.all))
	return c.run(func(one *client, number int, start time.Time) ([]time.Duration, error) {
		var times []time.Duration
		for due := start.Add(interval * time.Duration(number)); due.Sub(start) < d; due = due.Add(step) {
			time.Sleep(time.Until(due))
			if err := one.do(); err != nil {
				return nil, err
			}
			times = append(times, time.Since(due))
		}
		return times, nil
	})
}

func (c *Clients) run(one func(c *client, number int, start time.Time) ([]time.Duration, error)) (Result, error) {
	var (
		result Result
		failed []error
		mu     sync.Mutex
		all    sync.WaitGroup
		start  = time.Now()
	)
	for i, each := range c.all {
		all.Go(func() {
			times, err := one(each, i, start)
			mu.Lock()
			defer mu.Unlock()
			result.Times = append(result.Times, times...)
			if err != nil {
				failed = append(failed, err)
			}
		})
	}
	all.Wait()
	result.Took = time.Since(start)
	slices.Sort(result.Times)
	if len(failed) > 0 {
		return result, failed[0]
	}
	return result, nil
}

// Quantile is the time within which a share of the requests was answered.
func (r Result) Quantile(share float64) time.Duration {
	if len(r.Times) == 0 {
		return 0
	}
	return r.Times[min(len(r.Times)-1, int(share*float64(len(r.Times))))]
}
