//go:build !linux

package stage

import "time"

// sleeper sleeps as precisely as Go does.
func sleeper() (sleep func(time.Duration)) { return time.Sleep }
