package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// MakeDirectory creates a directory that the owner may use. Its name holds the
// process id, by which [RemoveAbandoned] knows that nobody needs it any more.
func MakeDirectory(prefix string, owner *Owner) (string, error) {
	parent := os.TempDir()
	if owner != nil && !traversable(parent) {
		parent = "/tmp"
	}
	parent, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	return dir, owner.Give(dir)
}

// traversable tells whether every user can reach what is in dir.
func traversable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// RemoveAbandoned deletes the directories, of [MakeDirectory] with that prefix,
// of test binaries that had no time to. It calls before, where that is not nil,
// with each.
func RemoveAbandoned(prefix string, before func(dir string)) {
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		dirs, _ := filepath.Glob(filepath.Join(parent, prefix+"*")) // nothing found, nothing to do
		for _, dir := range dirs {
			id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
			if pid, err := strconv.Atoi(id); err == nil && !alive(pid) {
				if before != nil {
					before(dir)
				}
				_ = os.RemoveAll(dir) // another user's is not ours to remove
			}
		}
	}
}

func alive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	return !errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// FreePort finds a port below the ones that systems hand out to outgoing
// connections, one of which could otherwise take it while the server is down.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := 15000 + rand.IntN(17000)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}
