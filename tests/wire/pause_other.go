//go:build !linux

package wire

import "time"

func pause(d time.Duration) { time.Sleep(d) }
