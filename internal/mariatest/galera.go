package mariatest

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child"
)

// galeraVariable names the folder of the programs of a MariaDB that has Galera.
const galeraVariable = "DBSCOPE_GALERA"

// StartNodes starts a cluster of three servers by Galera. All of them take writes, and
// what one of them commits is stored by each, or by none. They are otherwise as of
// [Start]. It skips the test where the environment names no MariaDB that has Galera, as
// make test-servers does: three servers that copy their data take their time.
func StartNodes(t testing.TB) (nodes []*Server) {
	t.Helper()
	dir, err := child.Folder(galeraVariable)
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		t.Skipf("mariatest: %s names no MariaDB that has Galera", galeraVariable)
	}
	bin, err := within(dir)
	if err != nil {
		t.Fatal(err)
	}
	var first int // the port that the others join
	for range 3 {
		settings, port, err := bin.node(first)
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = port
		}
		node := child.ForTest(t, func() (*Server, error) { return bin.start(nil, settings) })
		node.awaitSynced(t)
		nodes = append(nodes, node)
	}
	return nodes
}

// node returns the settings of a node that joins another, or is the first, and the
// port at which others join it.
func (b binaries) node(joins int) (settings []string, port int, err error) {
	var ports [3]int // of the group, of what it missed, and of all data
	for i := range ports {
		if ports[i], err = child.FreePort(); err != nil {
			return nil, 0, err
		}
	}
	address := "gcomm://"
	if joins != 0 {
		address = fmt.Sprintf("gcomm://127.0.0.1:%d", joins)
	}
	return []string{
		"binlog_format = ROW", "innodb_autoinc_lock_mode = 2", "wsrep_on = ON",
		"wsrep_provider = " + filepath.Join(b.prefix, "lib/galera/libgalera_smm.so"),
		"wsrep_cluster_name = test", "wsrep_cluster_address = " + address,
		fmt.Sprintf("wsrep_node_address = 127.0.0.1:%d", ports[0]),
		fmt.Sprintf(`wsrep_provider_options = "gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr=127.0.0.1:%d;gcache.size=16M"`, ports[0], ports[1]),
		"wsrep_sst_method = rsync", fmt.Sprintf("wsrep_sst_receive_address = 127.0.0.1:%d", ports[2]),
	}, ports[0], nil
}

// awaitSynced waits until the node has what the others have.
func (s *Server) awaitSynced(t testing.TB) {
	t.Helper()
	state := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if state = s.Query(t, "", "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'wsrep_local_state_comment'"); state == "Synced" {
			return
		}
	}
	t.Fatalf("mariatest: the node does not join the others: %s", state)
}
