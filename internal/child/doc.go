// Package child runs servers as child processes of test binaries. It is what
// pgtest, mariatest and the poolers have in common: a [Server] that a test may
// stop, kill and restart, or that the tests of a package share, which does not
// outlive the test binary; the system user it runs as where the tests run as root;
// directories that a later run removes when nobody had time to; and free ports.
package child
