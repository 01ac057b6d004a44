//go:build !unix

package pgtest

import "syscall"

func processAttributes(*owner) *syscall.SysProcAttr { return nil }

func killWithin(string) {}
