package patronitest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dbscope/dbscope/internal/pgtest"
)

// What applications connect with, and Patroni.
const (
	database    = "shop"
	user        = "app"
	password    = "secret"
	superuser   = "postgres"
	replication = "replicator"
)

// Patroni finds an absence in at most ttl seconds. It looks every loopWait, and
// a primary that cannot reach the etcd gives up after retryTimeout.
const (
	ttl          = 5
	loopWait     = 1
	retryTimeout = 2
)

// scope is the cluster's name in the etcd.
const scope = "shop"

type object = map[string]any

// parameters are those of every PostgreSQL. Durability stays on, as in package
// pgtest; files are small, since there are three of everything.
var parameters = object{
	"max_connections":            100,
	"shared_buffers":             "16MB",
	"dynamic_shared_memory_type": "mmap", // inside the data directory: nothing is left in /dev/shm
	"fsync":                      "on",
	"max_wal_size":               "64MB",
	"wal_keep_size":              "64MB",
	"wal_log_hints":              "on",
	// A peer that was frozen or parted is given up and found again soon.
	"wal_sender_timeout":          "3s",
	"wal_receiver_timeout":        "3s",
	"wal_retrieve_retry_interval": "200ms",
	"log_line_prefix":             "%m [%p] %q%d ",
}

// configuration is that of a node's Patroni, which reads JSON as the YAML that
// it is.
func (n *Node) configuration(bin string) object {
	return object{
		"scope": scope,
		"name":  n.name,
		// Not "etcd3": Patroni 3.0.2 keeps a copy of the etcd by that, which is out
		// of date when it is thawed, and then takes the leadership back from
		// whoever has it, without a comparison.
		"etcd": object{
			// The address is a proxy's; the etcd is not to be asked for its own.
			"hosts":       []string{address(n.etcd.port)},
			"use_proxies": true,
		},
		"restapi": object{
			"listen":          address(n.restPort),
			"connect_address": address(n.rest.port),
		},
		"bootstrap": object{
			"dcs": object{
				"ttl":                     ttl,
				"loop_wait":               loopWait,
				"retry_timeout":           retryTimeout,
				"maximum_lag_on_failover": 1 << 20,
				"synchronous_mode":        true,
				"postgresql": object{
					"use_pg_rewind": true,
					"use_slots":     true,
					"parameters":    parameters,
				},
			},
			"initdb": []any{
				object{"encoding": "UTF8"}, object{"auth": "trust"}, object{"wal-segsize": "1"}, "no-locale", "no-sync",
			},
		},
		"postgresql": object{
			"listen":          address(n.port),
			"connect_address": address(n.front.port),
			"data_dir":        n.data(),
			"bin_dir":         bin,
			"pgpass":          filepath.Join(n.dir, "pgpass"),
			"parameters":      object{"unix_socket_directories": ""},
			"pg_hba": []string{
				"host replication " + replication + " 127.0.0.1/32 trust",
				"host all " + superuser + " 127.0.0.1/32 trust",
				"host all all 127.0.0.1/32 scram-sha-256",
			},
			"authentication": object{
				"superuser":   object{"username": superuser, "sslmode": "disable", "gssencmode": "disable"},
				"replication": object{"username": replication, "sslmode": "disable", "gssencmode": "disable"},
			},
			"basebackup": []any{"no-sync", object{"checkpoint": "fast"}},
			// A node whose history cannot be mended is made anew.
			"remove_data_directory_on_rewind_failure":     true,
			"remove_data_directory_on_diverged_timelines": true,
		},
		"watchdog": object{"mode": "off"},
	}
}

func (n *Node) configure(bin string) error {
	content, err := json.MarshalIndent(n.configuration(bin), "", "  ")
	return errors.Join(err, os.WriteFile(n.configFile(), content, 0o644))
}

func (n *Node) data() string       { return filepath.Join(n.dir, "data") }
func (n *Node) configFile() string { return filepath.Join(n.dir, "patroni.json") }
func (n *Node) logFile() string    { return filepath.Join(n.dir, "log") }

// environment is that of this process without what would configure a Patroni
// or an etcd, and with a home that its user may use.
func environment(home string) []string {
	env := slices.DeleteFunc(pgtest.Environment(), func(v string) bool {
		return slices.ContainsFunc([]string{"HOME=", "PATRONI_", "ETCD_", "KUBERNETES_"}, func(prefix string) bool {
			return strings.HasPrefix(v, prefix)
		})
	})
	return append(env, "HOME="+home)
}
