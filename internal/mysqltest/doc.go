// Package mysqltest runs real MySQL servers for tests, as mariatest runs MariaDB's.
//
// It takes the MySQL in the folder that DBSCOPE_MYSQL_BIN names, else the one on PATH,
// else where systems put it, else the one that scripts/fetch-server has unpacked. Few
// systems have a package of it, so where none is found [Have] says so, and a test that
// can do without skips; with DBSCOPE_ALL_SERVERS set it fails.
//
// [Start] gives a test its own server, [Shared] one for the whole package:
//
//	func TestMain(m *testing.M) { os.Exit(mysqltest.Main(m).Run()) }
//
// All else is as in package mariatest.
package mysqltest
