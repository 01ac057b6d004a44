// Package secrets looks for a password of a data source name in everything that
// leaves dbscope.
package secrets
