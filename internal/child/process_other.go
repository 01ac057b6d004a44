//go:build !unix

package child

import "syscall"

func attributes(*Owner) *syscall.SysProcAttr { return nil }

func killWithin(string) {}
