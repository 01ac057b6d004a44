package patronitest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// strikeTimeout bounds a fault with all that follows from it, on a busy machine.
const strikeTimeout = 2 * time.Minute

// Fault is something that happens to a primary, after which, soon, another
// node, or the same again, is one.
type Fault struct {
	Name string
	Do   func(context.Context, *Node) error

	// Same tells that the node may stay the primary.
	Same bool
}

// Faults returns one of each kind. Do of Switchover returns when it is over; of
// the others, at once.
func Faults() []Fault {
	return []Fault{
		{Name: "switchover", Do: func(ctx context.Context, n *Node) error {
			_, err := n.cluster.Switchover(ctx)
			return err
		}},
		{Name: "kill -9 of PostgreSQL", Do: fault((*Node).KillPostgres), Same: true},
		{Name: "kill -9 of the node", Do: fault((*Node).Kill)},
		{Name: "SIGSTOP", Do: fault((*Node).Freeze)},
		{Name: "network cut", Do: fault((*Node).Cut)},
		{Name: "network stalled", Do: fault((*Node).Stall)},
	}
}

func fault(do func(*Node) error) func(context.Context, *Node) error {
	return func(_ context.Context, n *Node) error { return do(n) }
}

// Outage is what came of a fault.
type Outage struct {
	Fault   string
	At      time.Time
	Leader  *Node         // the primary that the fault struck
	Next    *Node         // the primary after it
	Led     time.Duration // until that answered
	Healthy time.Duration // until the cluster was healthy again
}

func (o Outage) String() string {
	return fmt.Sprintf("%s of %s: %s was the primary after %.1f s, the cluster healthy after %.1f s",
		o.Fault, o.Leader, o.Next, o.Led.Seconds(), o.Healthy.Seconds())
}

// Strike waits until the cluster is healthy, lets a fault happen to the primary,
// waits until there is the next, then repairs the node and waits again. It gives
// up after two minutes.
func (c *Cluster) Strike(ctx context.Context, f Fault) (o Outage, err error) {
	o.Fault = f.Name
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Name, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, strikeTimeout)
	defer cancel()
	// Without a replica in step there would be no next one.
	if err := c.WaitHealthy(ctx); err != nil {
		return o, err
	}
	if o.Leader, err = c.WaitLeader(ctx); err != nil {
		return o, err
	}
	o.At = time.Now()
	if err := f.Do(ctx, o.Leader); err != nil {
		return o, errors.Join(err, o.Leader.Repair())
	}
	not := []*Node{o.Leader}
	if f.Same {
		not = nil
	}
	o.Next, err = c.WaitLeader(ctx, not...)
	o.Led = time.Since(o.At)
	if err = errors.Join(err, o.Leader.Repair()); err != nil {
		return o, err
	}
	err = c.WaitHealthy(ctx)
	o.Healthy = time.Since(o.At)
	return o, err
}

// Disturb strikes with one fault after the other, over and over, with a pause
// before each, and reports each as it is over. It returns soon after ctx is
// done, when the last one is over too: the cluster is then healthy, unless
// there is an error.
func (c *Cluster) Disturb(ctx context.Context, pause time.Duration, faults []Fault, report func(Outage)) error {
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		outage, err := c.Strike(context.WithoutCancel(ctx), faults[i%len(faults)])
		if err != nil {
			return err
		}
		report(outage)
	}
}
