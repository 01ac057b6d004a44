module github.com/dbscope/dbscope/middleware/grpcscope

go 1.25.0

require (
	github.com/dbscope/dbscope v0.0.0
	go.uber.org/goleak v1.3.0
	google.golang.org/grpc v1.79.3
	google.golang.org/protobuf v1.36.11
)

require (
	golang.org/x/net v0.53.0 // indirect
	golang.org/x/sys v0.43.0 // indirect
	golang.org/x/text v0.36.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20251202230838-ff82c1b0f217 // indirect
)

replace github.com/dbscope/dbscope => ../../
