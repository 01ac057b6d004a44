// Package patronitest runs a real cluster for tests and demonstrations: three
// PostgreSQL servers, each kept by a Patroni, which agree through an etcd on
// who is the primary.
//
//	cluster := patronitest.Start(t)
//	db := pgxscope.Open(cluster.DSN(), dbscope.Host(cluster.Hosts()[0]))
//	...
//	primary, err := cluster.Leader(ctx)
//	err = primary.Freeze()                        // or Kill, KillPostgres, Cut, ...
//	next, err := cluster.WaitLeader(ctx, primary) // another one, after some seconds
//	err = primary.Thaw()
//	err = cluster.WaitHealthy(ctx)                // three nodes, two of them in step
//
// Commits are synchronous, to one of the two replicas, so that none that a
// client was told of is lost with the primary. The time after which an absent
// primary is replaced is short, 5 seconds; Patroni 4 raises it to 20.
//
// Clients reach a node through a proxy, as the nodes reach each other and the
// etcd. [Node.Cut] and [Node.Stall] therefore part it from everybody.
//
// Everything runs as child processes, on free ports of the loopback interface
// and in one temporary directory, which are gone with [Cluster.Close], and also
// when this process dies. It needs Linux, and PostgreSQL, patroni and etcd;
// DBSCOPE_PG_BIN, DBSCOPE_PATRONI and DBSCOPE_ETCD choose them. As
// root, they run as the system user "postgres".
package patronitest
