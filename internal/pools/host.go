package pools

import "github.com/dbscope/dbscope/driver"

// Host is one host and its pool.
type Host struct {
	name   string
	engine driver.Engine // nil before the first use
	users  *users

	waiting map[*Wait]struct{} // for a connection; guarded by the mu of its Pools
}

func newHost(name string, engine driver.Engine) *Host {
	return &Host{users: newUsers(), name: name, engine: engine}
}

// Name returns the host's name, empty where the connection string has it.
func (h *Host) Name() string { return h.name }

// Engine returns the host's pool.
func (h *Host) Engine() driver.Engine { return h.engine }

// Leave ends one use of the host; see [Pools.Connect].
func (h *Host) Leave() { h.users.leave() }
