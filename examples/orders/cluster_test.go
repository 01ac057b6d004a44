package main

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/pgtest"
)

// onCluster starts the service on a primary and its standby.
func onCluster(t *testing.T) (s *service, primary, standby *pgtest.Server) {
	primary = pgtest.Start(t)
	standby = primary.Standby(t)
	hosts := fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", standby.Port(), primary.Port())
	return start(t, open(t, "postgres://postgres@{host}/postgres?sslmode=disable", hosts, "")), primary, standby
}

func (s *service) show(t *testing.T, o Order) int {
	t.Helper()
	return s.call(t, http.MethodGet, "/orders/"+o.ID, nil, nil)
}

func TestInAClusterOthersMayReadOldDataButNobodyMissesTheirOwnOrder(t *testing.T) {
	s, _, standby := onCluster(t)
	o := s.mustPlace(t, Wish{"ada", "tea", 1})
	eventually(t, "the standby has the order", func() bool { return s.show(t, o) == http.StatusOK })
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_pause()")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Client().Jar = jar
	o = s.mustPlace(t, Wish{"ada", "tea", 1})
	checkEqual(t, "status for the one who placed it", s.show(t, o), http.StatusOK)
	s.Client().Jar = nil
	checkEqual(t, "status for somebody else", s.show(t, o), http.StatusNotFound)
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_wal_replay_resume()")
	eventually(t, "the standby has the order", func() bool { return s.show(t, o) == http.StatusOK })
}

func TestInAClusterOrdersArePlacedAgainAfterThePrimaryWasReplaced(t *testing.T) {
	s, primary, standby := onCluster(t)
	before := s.mustPlace(t, Wish{"ada", "tea", 1})
	written := primary.Query(t, primary.DSN("postgres"), "SELECT pg_current_wal_flush_lsn()")
	eventually(t, "the standby has the order", func() bool {
		return standby.Query(t, standby.DSN("postgres"), "SELECT pg_last_wal_replay_lsn() >= '"+written+"'") == "t"
	})
	primary.Kill()
	placing := make(chan int)
	go func() { placing <- s.place(t, Wish{"bob", "tea", 1}, nil) }()
	checkEqual(t, "status of show without a primary", s.show(t, before), http.StatusOK)
	standby.Query(t, standby.DSN("postgres"), "SELECT pg_promote()")
	if status := <-placing; status != http.StatusCreated { // it may have met the old primary's end
		eventually(t, "an order is placed", func() bool { return s.place(t, Wish{"bob", "tea", 1}, nil) == http.StatusCreated })
	}
	s.checkStored(t, 2, 2, fullStock-2)
}

func TestHostsAndAPlaceForThemAreNeededTogether(t *testing.T) {
	for databaseURL, hosts := range map[string]string{"postgres://one/shop": "a,b", "postgres://{host}/shop": "", "": "a,b"} {
		if _, err := openDatabase(databaseURL, hosts, ""); err == nil || !strings.Contains(err.Error(), "{host}") {
			t.Errorf("DATABASE_URL=%q HOSTS=%q: error is %v", databaseURL, hosts, err)
		}
	}
}

// eventually waits for what is bound to happen.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen: " + what)
		}
	}
}
