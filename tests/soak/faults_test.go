package soak_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/dbscope/dbscope/tests/wire"
)

// fault is something that happens to the servers, or between them and the service.
type fault struct {
	name   string
	weight int // of how many faults
	happen func(w *world) error
}

// Those that restart a server come seldom: it takes a second or more.
var faults = []fault{
	{"a session of PostgreSQL is ended", 20, func(w *world) error {
		return w.onPostgres("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3")
	}},
	{"statements of PostgreSQL are cancelled", 20, func(w *world) error {
		return w.onPostgres("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3")
	}},
	{"a session of MariaDB is killed", 20, func(w *world) error { return w.kill("KILL CONNECTION") }},
	{"a statement of MariaDB is killed", 20, func(w *world) error { return w.kill("KILL QUERY") }},
	{"connections to PostgreSQL are cut at a message", 30, func(w *world) error {
		for range 3 {
			at := pick([]wire.CutAt{
				{Message: "Query", Containing: "commit"},
				{Message: "CommandComplete", Containing: "COMMIT"},
				{Message: "Parse"},
				{Message: "Execute"},
				{Message: "ReadyForQuery"},
				{Message: "DataRow"},
			})
			at.When = pick([]wire.When{wire.Before, wire.During, wire.After})
			pick(w.proxies).Cut(at)
		}
		return nil
	}},
	{"all connections to PostgreSQL are cut", 4, func(w *world) error { pick(w.proxies).CloseAll(); return nil }},
	{"connections to MariaDB are cut", 20, func(w *world) error { w.cable.Cut(0.3); return nil }},
	{"the host is switched", 20, func(w *world) error {
		db := w.databases[rand.IntN(2)]
		w.mend() // or a cut may hit the switch, which then does nothing
		return db.SwitchHost(w.t.Context(), pick(db.hosts))
	}},
	{"PostgreSQL is stopped", 2, func(w *world) error { w.postgres.Stop(); w.postgres.Restart(w.t); return nil }},
	{"PostgreSQL is stopped at once", 2, func(w *world) error { w.postgres.StopAtOnce(); w.postgres.Restart(w.t); return nil }},
	{"PostgreSQL is killed", 2, func(w *world) error { w.postgres.Kill(); w.postgres.Restart(w.t); return nil }},
	{"MariaDB is stopped", 1, func(w *world) error { w.mariadb.Stop(); w.mariadb.Restart(w.t); return nil }},
	{"MariaDB is killed", 1, func(w *world) error { w.mariadb.Kill(); w.mariadb.Restart(w.t); return nil }},
}

// anyFault returns one by its weight.
func anyFault() fault {
	all := 0
	for _, f := range faults {
		all += f.weight
	}
	n := rand.IntN(all)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("no fault")
}

func (w *world) onPostgres(statement string) error {
	_, err := w.databases[0].admin.Exec(statement)
	return err
}

// kill does something to a session of MariaDB that was there a moment ago.
func (w *world) kill(what string) error {
	admin := w.databases[2].admin
	var id int64
	err := admin.QueryRow("SELECT id FROM information_schema.processlist WHERE user = 'app' AND id <> CONNECTION_ID() ORDER BY RAND() LIMIT 1").Scan(&id)
	if err != nil {
		return nil //nolint:nilerr // there is none just now
	}
	_, _ = admin.Exec(fmt.Sprintf("%s %d", what, id)) // it may have gone
	return nil
}

// mend takes back the cuts that were asked for and not made.
func (w *world) mend() {
	for _, p := range w.proxies {
		p.Mend()
	}
}
