package child

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// attributes makes the kernel stop the server at once when the test
// binary dies, whatever the reason.
func attributes(owner *Owner) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if owner != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(owner.uid), Gid: uint32(owner.gid)}
	}
	return attr
}

// Within lists the processes that run in a directory or below it. All processes
// of a server run in its data directory, and nothing else does.
func Within(dir string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is valid
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && (cwd == dir || strings.HasPrefix(cwd, dir+"/")) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func killWithin(dir string) {
	for _, pid := range Within(dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // an error means that it has ended
	}
}
