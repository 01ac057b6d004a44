package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

const superuser = "postgres"

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

// initialize creates the data directory.
func (s *Server) initialize(settings []string) error {
	if err := s.run("initdb", "--no-sync", "--no-locale", "--encoding=UTF8",
		"--auth=trust", "--username="+superuser, "--pgdata="+s.data()); err != nil {
		return err
	}
	return s.configure(defaults, settings)
}

// standbys counts those of the test binary: each has a slot of its primary.
var standbys atomic.Int64

// follow creates the data directory of a standby.
func (s *Server) follow(primary *Server, settings []string) error {
	if err := Needs(s.bin, "pg_basebackup"); err != nil {
		return fmt.Errorf("pgtest: a standby is a copy of its primary: %w", err)
	}
	slot := "standby" + strconv.Itoa(int(standbys.Add(1)))
	if err := s.run("pg_basebackup", "--dbname="+primary.DSN("postgres"), "--pgdata="+s.data(), "--no-sync",
		"--checkpoint=fast", "--wal-method=stream", "--create-slot", "--slot="+slot, "--write-recovery-conf"); err != nil {
		return err
	}
	return s.configure("", settings)
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(program string, args ...string) error {
	owner, err := Owner()
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.Dir()
	cmd.Env = Environment()
	if out, err := owner.Run(cmd); err != nil {
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
