//go:build unix && !linux

package child

import "syscall"

func attributes(owner *Owner) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if owner != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(owner.uid), Gid: uint32(owner.gid)}
	}
	return attr
}

// killWithin can only wait here: the portable means do not tell which processes
// belong to a server whose main process is gone.
func killWithin(string) {}
