// Package pgbouncer runs a real PgBouncer for tests, in front of a server of
// package pgtest:
//
//	server := pgtest.Shared(t)
//	dsn := pgbouncer.Start(t, server).DSN(server.CreateDatabase(t))
//
// It pools transactions: a client has a connection of the server for as long as
// a transaction, and clients share a few connections. What a statement leaves
// outside its transaction is found, or missed, by somebody else: SET, prepared
// statements, advisory locks. Debian's version, 1.18, does not carry prepared
// statements over; with pgx that leaves the modes cache_describe,
// describe_exec, exec and simple_protocol.
//
// A PgBouncer is a child process of the test binary, as the servers of pgtest
// are, and runs as the same user. DBSCOPE_PGBOUNCER may name the program; where
// there is none, the test fails and says what to do.
package pgbouncer
