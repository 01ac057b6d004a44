package wire

import (
	"syscall"
	"time"
)

// pause waits for less than a millisecond where time.Sleep would round up to
// one. It may end early.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // interrupted by a signal
}
