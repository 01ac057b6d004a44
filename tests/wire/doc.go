// Package wire puts a TCP proxy in front of a PostgreSQL server that reads what
// passes. Tests count with it how often a client waits for the network, make
// the network slower, and cut a connection at one chosen message.
//
//	proxy := wire.Start(t, "127.0.0.1:5432")
//	conn, err := pgx.Connect(ctx, proxy.DSN(dsn))
//	...
//	proxy.Reset()
//	work(conn)
//	if n := proxy.RoundTrips(); n != 2 {
//		t.Errorf("%d round trips:\n%s", n, strings.Join(proxy.Messages(), "\n"))
//	}
//
//	proxy.Cut(wire.CutAt{Message: "Query", Containing: "commit", When: wire.After})
//
// Only plain text passes: a client that asks for TLS is told that there is none.
package wire
