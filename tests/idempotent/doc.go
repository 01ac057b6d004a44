// Package idempotent tests that requests are done exactly once, on real databases.
package idempotent
