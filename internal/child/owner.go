package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
)

// Owner is the system user that servers run as; nil is the current one.
type Owner struct{ uid, gid int }

// FindOwner returns nil where the tests do not run as root, and otherwise the
// user of that name, since database servers refuse to be root.
func FindOwner(name string) (*Owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("the server does not run as root, but as the user %s: %w", name,
			&MissingError{Name: "user " + name, Key: "user:" + name})
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return &Owner{uid, gid}, errors.Join(uidErr, gidErr)
}

// IDs are those of the user; the current one's need not be set.
func (o *Owner) IDs() (uid, gid int, set bool) {
	if o == nil {
		return 0, 0, false
	}
	return o.uid, o.gid, true
}

// Give makes the owner that of a directory and of everything in it.
func (o *Owner) Give(dir string) error {
	if o == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.uid, o.gid)
	})
}

// Run runs a program as the owner to its end, and returns what it wrote. On
// Linux it dies with the test binary.
func (o *Owner) Run(cmd *exec.Cmd) ([]byte, error) {
	cmd.SysProcAttr = attributes(o)
	runtime.LockOSThread() // for the same reason as in Start
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}
