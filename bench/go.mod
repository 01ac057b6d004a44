module github.com/dbscope/dbscope/bench

go 1.25

require github.com/dbscope/dbscope v0.0.0

replace github.com/dbscope/dbscope => ../
