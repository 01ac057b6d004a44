package mysqltest

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
// was committed before a Kill is there after it. Stored functions of a user who is no
// administrator are for tests, where nothing is replicated.
const defaults = `[mysqld]
bind_address = 127.0.0.1
skip_name_resolve
mysqlx = OFF
secure_file_priv = NULL
character_set_server = utf8mb4
default_time_zone = +00:00
max_connections = 200
innodb_buffer_pool_size = 32M
innodb_redo_log_capacity = 16M
innodb_buffer_pool_dump_at_shutdown = OFF
innodb_buffer_pool_load_at_startup = OFF
log_bin_trust_function_creators = ON
`

// users are the SQL accounts. The administrator comes by TCP too. The application's may
// not write to a server that is read_only, as applications may not, and may see what
// tests look at.
const users = `CREATE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
CREATE USER ` + appUser + `@'%';
GRANT ALL ON ` + "`test%`" + `.* TO ` + appUser + `@'%';
GRANT PROCESS ON *.* TO ` + appUser + `@'%';
GRANT SELECT ON performance_schema.* TO ` + appUser + `@'%';
`

// initialize creates the data directory and the configuration.
func (s *Server) initialize(settings []string) error {
	conf := fmt.Sprintf("%s\nbasedir = %s\nlc_messages_dir = %s\nsocket = %s\npid_file = %s\ndatadir = %s\n%s\n", defaults, s.bin.prefix, s.bin.messages(),
		filepath.Join(s.Dir(), "socket"), filepath.Join(s.Dir(), "pid"), s.data(), strings.Join(settings, "\n")) // the last one wins
	if err := os.WriteFile(s.configFile(), []byte(conf), 0o644); err != nil {
		return err
	}
	version, err := exec.Command(s.bin.server, "--no-defaults", "--version").Output()
	if err != nil {
		return fmt.Errorf("mysqltest: %s --version: %w", s.bin.server, err)
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
	if err := errors.Join(os.WriteFile(sql, []byte(users), 0o644), owner.Give(s.Dir())); err != nil {
		return err
	}
	cmd := exec.Command(s.bin.server, "--defaults-file="+s.configFile(), "--initialize-insecure", "--init-file="+sql,
		"--disable-log-bin", "--innodb-flush-method=nosync")
	cmd.Dir = s.Dir()
	cmd.Env = kind.Environment()
	if out, err := owner.Run(cmd); err != nil {
		return fmt.Errorf("mysqltest: mysqld --initialize-insecure: %w\n%s", err, out)
	}
	// Servers that are copied from it must not be taken for one.
	return os.Remove(filepath.Join(s.data(), "auto.cnf"))
}
