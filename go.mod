module github.com/dbscope/dbscope

go 1.25
