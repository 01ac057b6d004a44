package mariatest

import (
	"fmt"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// Replica starts a server that follows this one and is read_only. It has what
// this server had when it returns, and is otherwise as of [Start].
func (s *Server) Replica(t testing.TB, settings ...string) *Server {
	t.Helper()
	// The primary's binary log goes back to its beginning, so the replica
	// needs no copy of its data.
	settings = append([]string{"read_only = ON"}, settings...)
	replica := child.ForTest(t, func() (*Server, error) { return newServer(s, settings) })
	replica.Query(t, "", fmt.Sprintf("CHANGE MASTER TO master_host = '127.0.0.1', master_port = %d, master_user = 'root', "+
		"master_use_gtid = slave_pos, master_connect_retry = 1; START SLAVE", s.Port()))
	replica.CatchUp(t)
	return replica
}

// PauseReplay lets the replica receive what its primary commits and not show it.
// It blocks until the transaction that is being replayed is done.
func (s *Server) PauseReplay(t testing.TB) {
	t.Helper()
	s.Query(t, "", "STOP SLAVE SQL_THREAD")
}

// ResumeReplay undoes [Server.PauseReplay]. It does not wait for the replica to
// catch up.
func (s *Server) ResumeReplay(t testing.TB) {
	t.Helper()
	s.Query(t, "", "START SLAVE SQL_THREAD")
}

// CatchUp blocks until the replica shows everything that its primary has
// committed by now.
func (s *Server) CatchUp(t testing.TB) {
	t.Helper()
	position := s.primary.Query(t, "", "SELECT @@gtid_binlog_pos")
	if got := s.Query(t, "", fmt.Sprintf("SELECT master_gtid_wait('%s', 20)", position)); got != "0" {
		t.Fatalf("mariatest: the replica does not reach %s: %s", position, s.Query(t, "", "SHOW SLAVE STATUS"))
	}
}
