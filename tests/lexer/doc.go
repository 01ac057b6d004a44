// Package lexer puts random texts of SQL to units on real databases: whatever a
// text does, the unit says what became of its work. See driver.ControlStatement.
//
//	go test -run NONE -fuzz FuzzSQLite -fuzztime 30m -fuzzminimizetime 50x -parallel 1 ./tests/lexer
package lexer
