// Package child runs servers as child processes of test binaries. It is what
// pgtest and mariatest have in common: processes that do not outlive the test
// binary, the system user they run as where the tests run as root, directories
// that a later run removes when nobody had time to, and free ports.
package child
