package pgtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const (
	superuser       = "postgres"
	directoryPrefix = "dbscope-pgtest-"
)

// defaults are the settings of every server. Durability stays on, so that what
// was committed before a Kill is there after it.
const defaults = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
dynamic_shared_memory_type = mmap  # inside the data directory: nothing is left in /dev/shm
fsync = on
log_line_prefix = '%m [%p] %q%d '
`

// owner is the system user that servers run as.
type owner struct{ uid, gid int }

// findOwner returns nil for the current user, and user postgres instead of root.
var findOwner = sync.OnceValues(func() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("pgtest: PostgreSQL does not run as root, and there is no user to run it as: "+
			"create the user postgres, or run the tests as another user: %w", err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return &owner{uid, gid}, errors.Join(uidErr, gidErr)
})

// makeDirectory creates a directory that the owner may use. Its name holds the
// process id, by which abandoned knows that nobody needs it any more.
func makeDirectory(prefix string) (string, error) {
	owner, err := findOwner()
	if err != nil {
		return "", err
	}
	parent := os.TempDir()
	if owner != nil && !traversable(parent) {
		parent = "/tmp"
	}
	if parent, err = filepath.EvalSymlinks(parent); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil || owner == nil {
		return dir, err
	}
	return dir, os.Chown(dir, owner.uid, owner.gid)
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

// initialize creates the data directory.
func (s *Server) initialize(settings []string) error {
	if err := s.run("initdb", "--no-sync", "--no-locale", "--encoding=UTF8",
		"--auth=trust", "--username="+superuser, "--pgdata="+s.data()); err != nil {
		return err
	}
	return s.configure(defaults, settings)
}

// follow creates the data directory of a standby.
func (s *Server) follow(primary *Server, settings []string) error {
	slot := "standby" + strconv.Itoa(int(primary.databases.Add(1)))
	if err := s.run("pg_basebackup", "--dbname="+primary.DSN("postgres"), "--pgdata="+s.data(), "--no-sync",
		"--checkpoint=fast", "--wal-method=stream", "--create-slot", "--slot="+slot, "--write-recovery-conf"); err != nil {
		return err
	}
	return s.configure("", settings)
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(program string, args ...string) error {
	cmd, err := s.command(program, args...)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // for the same reason as in startProcess
	out, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("pgtest: %s: %w\n%s", program, err, out)
	}
	return nil
}

func (s *Server) configure(defaults string, settings []string) error {
	conf, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(defaults + strings.Join(settings, "\n") + "\n") // the last one wins
	return errors.Join(err, conf.Close())
}

// removeAbandoned deletes the directories of test binaries that had no time to.
func removeAbandoned() {
	for _, dir := range abandoned(directoryPrefix) {
		removeSharedMemory(filepath.Join(dir, "data", "postmaster.pid"))
		_ = os.RemoveAll(dir) // another user's is not ours to remove
	}
}

// abandoned lists the directories of makeDirectory whose process has ended.
func abandoned(prefix string) (dirs []string) {
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		all, _ := filepath.Glob(filepath.Join(parent, prefix+"*")) // nothing found, nothing to do
		for _, dir := range all {
			id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
			if pid, err := strconv.Atoi(id); err == nil && !alive(pid) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func alive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	return !errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// removeSharedMemory deletes the few bytes of System V shared memory that a
// killed server leaves in the kernel. A server that stopped has removed them,
// and its file too.
func removeSharedMemory(pidFile string) {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if lines := strings.Split(string(content), "\n"); len(lines) > 6 {
		if key := strings.Fields(lines[6]); len(key) == 2 {
			_ = exec.Command("ipcrm", "-m", key[1]).Run() // a courtesy
		}
	}
}

// freePort finds a port below the ones that systems hand out to outgoing
// connections, one of which could otherwise take it while the server is down.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 15000 + rand.IntN(17000)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("pgtest: no free port: %w", err)
}
