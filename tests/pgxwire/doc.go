// Package pgxwire compares pgxscope with pgx alone on a server that a real one
// cannot be made to be: its answers are cut into pieces of any size, with
// notifications, notices and changed parameters between any two messages, and
// statements fail at any of their steps. A program of units of work is run once
// through dbscope and once through pgx; both must see and store the same.
//
//	go test -fuzz FuzzWire -fuzztime 10m ./tests/pgxwire
package pgxwire
