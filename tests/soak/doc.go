// Package soak loads a service with requests of many kinds while its databases
// fail, looks for every row that a client was told of, and watches whether memory,
// goroutines, files and the servers' sessions return to where they were. It is a
// test without code of its own; docs/reliability.md says how to run it for long.
package soak
