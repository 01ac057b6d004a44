package livescope

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// kept is a unit that is over.
type kept struct {
	unit *follow.Unit
	at   time.Time // when it was over
	took time.Duration
}

// ring has the latest, up to most.
type ring struct {
	most int
	all  []kept // the oldest first
}

func (r *ring) add(k kept) {
	if len(r.all) == r.most {
		copy(r.all, r.all[1:])
		r.all = r.all[:len(r.all)-1]
	}
	r.all = append(r.all, k)
}

// since returns those that were over after a time, the latest first.
func (r *ring) since(t time.Time) (all []kept) {
	for _, k := range slices.Backward(r.all) {
		if k.at.After(t) {
			all = append(all, k)
		}
	}
	return all
}

// slowest has those that took longest.
type slowest struct{ all []kept }

// mostSlow is how many there are.
const mostSlow = 20

// add takes a unit in, where it took longer than another, or there is room; those that
// were over before the time are dropped.
func (s *slowest) add(k kept, since time.Time) {
	if len(s.all) == mostSlow && k.took <= s.all[mostSlow-1].took && s.all[0].at.After(since) {
		return // the usual case; one that is too old is dropped by the next that is slow
	}
	s.all = slices.DeleteFunc(s.all, func(old kept) bool { return !old.at.After(since) })
	place, _ := slices.BinarySearchFunc(s.all, k, func(a, b kept) int { return cmp.Compare(b.took, a.took) })
	s.all = slices.Insert(s.all, place, k)
	s.all = s.all[:min(len(s.all), mostSlow)]
}

func (s *slowest) since(t time.Time) (all []kept) {
	for _, k := range s.all {
		if k.at.After(t) {
			all = append(all, k)
		}
	}
	return all
}

// window counts what happened in the last minute.
type window struct {
	slots [12]int
	at    int64 // the number of the latest slot
}

// slot is how long one of them is.
const slot = 5 * time.Second

func (w *window) turn(now time.Time) {
	n := now.UnixNano() / int64(slot)
	for ; w.at < n; w.at++ {
		if n-w.at > int64(len(w.slots)) {
			w.at = n - int64(len(w.slots))
		}
		w.slots[(w.at+1)%int64(len(w.slots))] = 0
	}
}

func (w *window) add(now time.Time) {
	w.turn(now)
	w.slots[w.at%int64(len(w.slots))]++
}

func (w *window) sum(now time.Time) (sum int) {
	w.turn(now)
	for _, n := range w.slots {
		sum += n
	}
	return sum
}

// rates are those of the whole.
type rates struct{ units, failed, suspicious window }

// host is where sessions are.
type host struct{ db, name string }

// shares are the transactions that a host had.
type shares struct{ reads, others window }

// mostHosts bounds the hosts that are counted.
const mostHosts = 100

func (p *Page) begun(u *follow.Unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[u] = struct{}{}
}

func (p *Page) found(_ context.Context, u *follow.Unit, _ follow.Finding) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rates.suspicious.add(now)
	if !slices.ContainsFunc(p.suspect.all, func(k kept) bool { return k.unit == u }) {
		p.suspect.add(kept{u, now, 0})
	}
}

func (p *Page) over(_ context.Context, u *follow.Unit, e observe.Event) {
	k := kept{u, e.Time.Add(e.Duration), e.Duration}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, u)
	p.rates.units.add(k.at)
	p.recent.add(k)
	if e.Err != nil {
		p.rates.failed.add(k.at)
		p.failed.add(k)
	}
	p.slow.add(k, k.at.Add(-p.keep))
}

func (p *Page) transaction(e observe.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := host{e.DB, e.Host}
	s := p.sessions[at]
	if s == nil {
		if len(p.sessions) == mostHosts {
			return
		}
		s = &shares{}
		p.sessions[at] = s
	}
	if now := e.Time.Add(e.Duration); e.ReadOnly {
		s.reads.add(now)
	} else {
		s.others.add(now)
	}
}
