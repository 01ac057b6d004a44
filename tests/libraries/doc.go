// Package libraries holds the same small program as the users of each library write it,
// for the tests to run on scopes' handles: nothing in it knows of dbscope.
package libraries
