package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dbscope/dbscope/driver"
)

// dialect is what a kind of server is asked, and how its answers read.
type dialect interface {
	// probe is a query of one row that state reads.
	probe() string
	state(row []string) (state, error)
	// queries and position are those of [driver.Router].
	queries() (before, after string)
	position(before, after []string) (driver.Position, bool)
}

type postgres struct{}

// A replica's timeline is in its control file only when that is written, at the
// latest with the next restartpoint; the receiver knows it at once, but tells
// only roles that may read all statistics.
const postgresProbe = `SELECT r, p.*, (SELECT system_identifier FROM pg_control_system()), pg_backend_pid() FROM pg_is_in_recovery() AS r, LATERAL (
	SELECT coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::text,
		greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
			(SELECT received_tli FROM pg_stat_wal_receiver))::bigint WHERE r
	UNION ALL SELECT (pg_current_wal_flush_lsn() - '0/0')::text,
		('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint WHERE NOT r) AS p (number, timeline)`

func (postgres) probe() string { return postgresProbe }

func (postgres) state(row []string) (state, error) {
	if len(row) != 5 {
		return state{}, fmt.Errorf("the server answered %q", row)
	}
	at, err := position(row[1:3])
	if err != nil {
		return state{}, err
	}
	cluster, err := strconv.ParseUint(row[3], 10, 64)
	if err != nil {
		return state{}, err
	}
	process, err := strconv.ParseUint(row[4], 10, 32)
	return state{primary: row[0] == "f" || row[0] == "false", at: at, cluster: cluster, process: uint32(process)}, err
}

// queries ask for two positions, and in the name of a file for the timeline.
// What synchronous_commit = off has committed is not durable yet, and so after
// the first one. The second one can be beyond all that is written, so that an
// idle replica never reaches it.
func (postgres) queries() (before, after string) {
	return "SELECT pg_current_xact_id_if_assigned()::text, current_setting('synchronous_commit')",
		"SELECT pg_current_wal_flush_lsn()::text, pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_flush_lsn())"
}

func (postgres) position(before, after []string) (p driver.Position, ok bool) {
	switch {
	case len(before) != 2 || before[0] == "":
		return p, false // it has no id, and so has written nothing
	case len(after) != 3:
		return driver.Newest, true
	case before[1] == "off":
		after[0] = after[1]
	}
	var high, low uint64
	_, err := fmt.Sscanf(after[0]+" "+after[2], "%X/%X %08X", &high, &low, &p.Timeline)
	if err != nil {
		return driver.Newest, true
	}
	p.Number = high<<32 | low
	return p, true
}

// position reads a number and a timeline.
func position(row []string) (driver.Position, error) {
	if len(row) != 2 {
		return driver.Position{}, fmt.Errorf("the server answered %q", row)
	}
	number, err := strconv.ParseUint(row[0], 10, 64)
	if err != nil {
		return driver.Position{}, err
	}
	timeline, err := strconv.ParseUint(row[1], 10, 32)
	return driver.Position{Timeline: uint32(timeline), Number: number}, err
}

// mariadb takes for the cluster the replication domain, and for the number of
// a position the sequence number in it.
type mariadb struct{}

func (mariadb) probe() string {
	return "SELECT @@read_only, IF(@@read_only, @@gtid_slave_pos, @@gtid_binlog_pos), @@gtid_domain_id"
}

func (mariadb) state(row []string) (state, error) {
	if len(row) != 3 {
		return state{}, fmt.Errorf("the server answered %q", row)
	}
	domain, err := strconv.ParseUint(row[2], 10, 64)
	if err != nil {
		return state{}, err
	}
	s := state{primary: row[0] == "0", cluster: domain}
	for gtid := range strings.SplitSeq(row[1], ",") {
		gtid = strings.TrimSpace(gtid)
		if strings.HasPrefix(gtid, row[2]+"-") {
			s.at, err = gtidPosition(gtid)
		}
	}
	return s, err
}

// gtidPosition reads a domain, a server and a sequence number.
func gtidPosition(gtid string) (p driver.Position, err error) {
	p.Number, err = strconv.ParseUint(gtid[strings.LastIndexByte(gtid, '-')+1:], 10, 64)
	return p, err
}

const lastGTID = "SELECT @@last_gtid"

func (mariadb) queries() (before, after string) { return lastGTID, lastGTID }

func (mariadb) position(before, after []string) (driver.Position, bool) {
	if len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		return driver.Position{}, false // nothing was written
	}
	p, err := gtidPosition(after[0])
	if err != nil {
		return driver.Newest, true
	}
	return p, true
}
