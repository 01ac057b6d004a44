package stage

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper makes its goroutine one that sleeps to the tenth of a millisecond:
// time.Sleep goes in whole milliseconds while the program has nothing to do. It
// holds a thread until the goroutine ends.
func sleeper() (sleep func(time.Duration)) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // it is less precise without
	return func(d time.Duration) {
		if d <= 0 {
			return
		}
		left := syscall.NsecToTimespec(int64(d))
		for syscall.Nanosleep(&left, &left) == syscall.EINTR {
		}
	}
}
