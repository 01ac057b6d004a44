// Package tenants runs random programs of two tenants on one table with row-level
// security, side by side and on the same connections, over all that a unit of work
// can do. No statement may see a row of the other tenant, and no row may be stored
// in another name than its program's, or in none.
//
//	go test ./tests/tenants -programs 20000
//	go test ./tests/tenants -run /PgBouncer -programs 5000
//	go test ./tests/tenants -seed 7/123    one program again
package tenants
