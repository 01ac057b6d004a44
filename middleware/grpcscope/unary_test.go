package grpcscope_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

// stores is a handler that stores a row and then answers as it is told.
func (s *site) stores(err error) func(context.Context, *text) (*text, error) {
	return func(ctx context.Context, order *text) (*text, error) {
		s.store(ctx, order.GetValue())
		return wrapperspb.String("stored"), err
	}
}

// failures are commits that fail, and what the client gets.
var failures = map[string]struct {
	fault drivertest.Fault
	code  codes.Code
}{
	"that is not worth another call": {drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack}, codes.Internal},
	"for a conflict": {
		drivertest.Fault{Err: fmt.Errorf("%w: %w", errInjected, drivertest.ErrTransient), Outcome: driver.RolledBack}, codes.Aborted,
	},
	"whose outcome is unknown": {
		drivertest.Fault{Err: fmt.Errorf("%w: %w", errInjected, drivertest.ErrTransient), Outcome: driver.Unknown}, codes.Internal,
	},
}

func TestACommitThatFails(t *testing.T) {
	for name, c := range failures {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.place = s.stores(nil)
			s.fake.Inject("commit", c.fault)
			answer, err := s.send()
			wantCode(t, err, c.code)
			if answer != "" {
				t.Errorf("the client got %q", answer)
			}
			s.wantRows()
			s.wantErrors(errInjected)
			s.wantIdle()
		})
	}
}

func TestInterceptorsOutsideSeeWhatWentWrongAndCannotGiveItAway(t *testing.T) {
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	between := grpcscope.UnaryServerInterceptor(grpcscope.OnError(func(grpcscope.Call, error) {}))
	_, err := between(t.Context(), "", &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
		return "", drivertest.Exec(ctx, db, "row")
	})
	if !errors.Is(err, errInjected) {
		t.Errorf("outside the error is %v", err)
	}
	wantCode(t, fmt.Errorf("wrapped: %w", err), codes.Internal)
}

func TestTheErrorOfAHandlerGoesOnAsItIs(t *testing.T) {
	detailed, err := status.New(codes.ResourceExhausted, "sold out").WithDetails(wrapperspb.String("tea"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.place = s.stores(detailed.Err())
	_, err = s.send()
	wantCode(t, err, codes.ResourceExhausted)
	got := status.Convert(err)
	if details := got.Details(); got.Message() != "sold out" || len(details) != 1 || details[0].(*text).GetValue() != "tea" {
		t.Errorf("the client got %v with %v", err, got.Details())
	}
	s.wantRows()
	s.wantErrors()
	s.wantIdle()
}

// notAnError has a status that is no error's.
type notAnError struct{ error }

func (notAnError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestThePolicyIsAskedWithTheCodeThatTheServerSends(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{nil, codes.OK},
		{status.Error(codes.NotFound, "no"), codes.NotFound},
		{fmt.Errorf("wrapped: %w", status.Error(codes.NotFound, "no")), codes.NotFound},
		{errors.New("no"), codes.Internal},
		{context.Canceled, codes.Canceled},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{notAnError{errors.New("no")}, codes.Internal},
	} {
		for _, commit := range []bool{true, false} {
			var asked []codes.Code
			s := newSite(t, grpcscope.CommitWhen(func(call grpcscope.Call, code codes.Code) bool {
				if call.FullMethod != placeMethod || call.ClientStream || call.ServerStream {
					t.Errorf("the call is %v", call)
				}
				asked = append(asked, code)
				return commit
			}))
			s.place = s.stores(c.err)
			_, _ = s.send()
			if !slices.Equal(asked, []codes.Code{c.code}) {
				t.Errorf("for %v the policy was asked about %v", c.err, asked)
			}
			if commit {
				s.wantRows("order")
			} else {
				s.wantRows()
			}
		}
	}
}

func TestOnlyCodeOKCommitsByDefault(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		s := newSite(t)
		s.place = s.stores(status.Error(code, "so it is"))
		_, err := s.send()
		wantCode(t, err, code)
		if code == codes.OK {
			s.wantRows("order")
		} else {
			s.wantRows()
		}
	}
}

func TestHeadersAndTrailersOfAHandlerArrive(t *testing.T) {
	for name, c := range map[string]struct {
		err, commit error
		code        codes.Code
	}{
		"with an answer":       {nil, nil, codes.OK},
		"with an error":        {status.Error(codes.NotFound, "no"), nil, codes.NotFound},
		"with a failed commit": {nil, errInjected, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.place = func(ctx context.Context, order *text) (*text, error) {
				s.store(ctx, order.GetValue())
				return wrapperspb.String("stored"), errors.Join(c.err,
					grpc.SetHeader(ctx, metadata.Pairs("x-header", "1")),
					grpc.SendHeader(ctx, metadata.Pairs("x-sent", "2")), // ahead of the commit
					grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "3")))
			}
			if c.commit != nil {
				s.fake.Inject("commit", drivertest.Fault{Err: c.commit, Outcome: driver.RolledBack})
			}
			var header, trailer metadata.MD
			_, err := s.send(grpc.Header(&header), grpc.Trailer(&trailer))
			wantCode(t, err, c.code)
			for key, got := range map[string][]string{
				"1": header.Get("x-header"), "2": header.Get("x-sent"), "3": trailer.Get("x-trailer"),
			} {
				if !slices.Equal(got, []string{key}) {
					t.Errorf("the client got %v and %v", header, trailer)
				}
			}
		})
	}
}

func TestOptionsReachTheScope(t *testing.T) {
	s := newSite(t,
		grpcscope.ReadOnly(func(c grpcscope.Call) bool { return c.FullMethod == placeMethod }),
		grpcscope.ScopeOptions(dbscope.Isolation(sql.LevelSerializable)),
		grpcscope.ScopeOptions(dbscope.CommitTimeout(time.Minute)))
	s.place = s.stores(nil)
	if _, err := s.send(); err != nil {
		t.Error(err)
	}
	if log := strings.Join(s.fake.Log(), ", "); !strings.Contains(log, "begin read-onlySerializable") {
		t.Errorf("the database saw %s", log)
	}
}

func TestWithoutOnErrorAFailedCommitIsLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	fake := drivertest.NewFake()
	db := fake.DB()
	fake.Inject("commit", drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack})
	info := &grpc.UnaryServerInfo{FullMethod: placeMethod}
	_, err := grpcscope.UnaryServerInterceptor()(t.Context(), "", info, func(ctx context.Context, _ any) (any, error) {
		return "", drivertest.Exec(ctx, db, "row")
	})
	wantCode(t, err, codes.Internal)
	if got := log.String(); !strings.Contains(got, errInjected.Error()) || !strings.Contains(got, placeMethod) {
		t.Errorf("the log is %s", got)
	}
}
