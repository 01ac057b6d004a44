module github.com/dbscope/dbscope/middleware/echoscope

go 1.25.0

require (
	github.com/dbscope/dbscope v0.0.0
	github.com/labstack/echo/v5 v5.3.0
	go.uber.org/goleak v1.3.0
)

require golang.org/x/time v0.15.0 // indirect

replace github.com/dbscope/dbscope => ../../
