package mariatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const appUser = "app"

// defaults are the settings of every server. Durability stays on, so that what
// was committed before a Kill is there after it. The binary log is what
// replicas follow.
const defaults = `[mariadbd]
bind_address = 127.0.0.1
skip_name_resolve
character_set_server = utf8mb4
default_time_zone = +00:00
max_connections = 200
innodb_buffer_pool_size = 32M
innodb_log_file_size = 8M
innodb_buffer_pool_dump_at_shutdown = OFF
innodb_buffer_pool_load_at_startup = OFF
log_bin = binlog
log_slave_updates
sync_binlog = 1
slave_net_timeout = 5
`

// users are the SQL accounts. The application's may not write to a server that
// is read_only, as applications may not, and may see what tests look at.
// They are created by a server that goes without privileges until it is told.
const users = `FLUSH PRIVILEGES;
CREATE USER ` + appUser + `@'%';
GRANT ALL ON ` + "`test%`" + `.* TO ` + appUser + `@'%';
GRANT PROCESS, CONNECTION ADMIN, BINLOG MONITOR, SLAVE MONITOR ON *.* TO ` + appUser + `@'%';
`

// initialize creates the data directory and the configuration. The server's
// number in a replication is id.
func (s *Server) initialize(id int64, settings []string) error {
	conf := fmt.Sprintf("%s\nbasedir = %s\nserver_id = %d\nsocket = %s\npid_file = %s\ndatadir = %s\n%s\n", defaults, s.bin.prefix, id,
		filepath.Join(s.Dir(), "socket"), filepath.Join(s.Dir(), "pid"), s.data(), strings.Join(settings, "\n")) // the last one wins
	if err := os.WriteFile(s.configFile(), []byte(conf), 0o644); err != nil {
		return err
	}
	version, err := exec.Command(s.bin.server, "--no-defaults", "--version").Output()
	if err != nil {
		return fmt.Errorf("mariatest: %s --version: %w", s.bin.server, err)
	}
	if err := kind.Fill(s.data(), string(version)+defaults+users, s.install); err != nil {
		return err
	}
	owner, err := kind.Owner()
	if err != nil {
		return err
	}
	return owner.Give(s.Dir())
}

// install creates a data directory that holds the system's tables and users.
func (s *Server) install() error {
	owner, err := kind.Owner()
	if err != nil {
		return err
	}
	sql := filepath.Join(s.Dir(), "users.sql")
	err = errors.Join(os.Mkdir(s.data(), 0o700), os.WriteFile(sql, []byte(users), 0o644), owner.Give(s.Dir()))
	if err != nil {
		return err
	}
	cmd := exec.Command(s.bin.install, "--defaults-file="+s.configFile(), "--basedir="+s.bin.prefix, "--datadir="+s.data(), "--extra-file="+sql,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--force", "--skip-log-bin", "--innodb-flush-method=nosync")
	cmd.Dir = s.Dir()
	cmd.Env = kind.Environment()
	if out, err := owner.Run(cmd); err != nil {
		return fmt.Errorf("mariatest: mariadb-install-db: %w\n%s", err, out)
	}
	return nil
}
