// Package connect runs units over the connections that people have: with TLS and
// passwords, certificates of clients, Unix sockets, several hosts in one string, and
// PgBouncer in each of its modes.
package connect
