package grpcscope_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
)

func send(stream interface{ SendMsg(any) error }, messages ...string) error {
	for _, m := range messages {
		if err := stream.SendMsg(wrapperspb.String(m)); err != nil {
			return err
		}
	}
	return nil
}

// finish closes the client's side and checks all that the server sends.
func (s *site) finish(stream grpc.ClientStream, code codes.Code, want ...string) {
	s.t.Helper()
	if err := stream.CloseSend(); err != nil {
		s.t.Error(err)
	}
	got, err := receive(stream)
	if code != codes.OK || !errors.Is(err, io.EOF) {
		wantCode(s.t, err, code)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("the client got the messages %q, want %q", got, want)
	}
	<-s.ended
	s.wantIdle()
}

func TestAStreamWithoutAMessageIsDecidedAtItsEnd(t *testing.T) {
	for code, rows := range map[codes.Code][]string{codes.OK: {"row"}, codes.NotFound: nil} {
		s := newSite(t)
		s.stream = func(stream grpc.ServerStream) error {
			s.store(stream.Context(), "row")
			return status.Error(code, "no")
		}
		s.finish(s.open(watchMethod), code)
		s.wantRows(rows...)
	}
}

func TestACommitAtTheFirstMessageThatFails(t *testing.T) {
	for name, c := range failures {
		for _, method := range []string{watchMethod, uploadMethod, chatMethod} {
			t.Run(name+method, func(t *testing.T) {
				s := newSite(t)
				s.fake.Inject("commit", c.fault)
				s.stream = func(stream grpc.ServerStream) error {
					s.store(stream.Context(), "early")
					for range 2 {
						err := send(stream, "stored")
						wantCode(t, err, c.code)
						if !errors.Is(err, errInjected) {
							t.Errorf("SendMsg returned %v", err)
						}
					}
					s.store(stream.Context(), "late")
					return nil // the handler overlooks it
				}
				s.finish(s.open(method), c.code)
				s.wantRows()
				s.wantErrors(errInjected)
			})
		}
	}
}

func TestWorkAfterTheFirstMessageIsATransactionOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		fault drivertest.Fault
		code  codes.Code
		rows  []string
		errs  []error
	}{
		"that is committed":         {nil, drivertest.Fault{}, codes.OK, []string{"early", "late"}, nil},
		"undone by an error":        {status.Error(codes.NotFound, "no"), drivertest.Fault{}, codes.NotFound, []string{"early"}, nil},
		"whose commit fails":        {nil, failures["that is not worth another call"].fault, codes.Internal, []string{"early"}, []error{errInjected}},
		"that had a conflict":       {nil, failures["for a conflict"].fault, codes.Internal, []string{"early"}, []error{errInjected}},
		"that may have been stored": {nil, failures["whose outcome is unknown"].fault, codes.Internal, []string{"early"}, []error{errInjected}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.stream = func(stream grpc.ServerStream) error {
				s.store(stream.Context(), "early")
				if err := send(stream, "first"); err != nil {
					return err
				}
				s.store(stream.Context(), "late")
				if err := send(stream, "second"); err != nil {
					return err
				}
				s.wantRows("early")
				s.fake.Inject("commit", c.fault)
				return c.err
			}
			s.finish(s.open(watchMethod), c.code, "first", "second")
			s.wantRows(c.rows...)
			s.wantErrors(c.errs...)
		})
	}
}

// Nothing was stored when the first message was sent: the whole call may be
// repeated.
func TestAConflictInAllThatAStreamStoredIsWorthAnotherCall(t *testing.T) {
	s := newSite(t)
	s.fake.Inject("commit", failures["for a conflict"].fault)
	s.stream = func(stream grpc.ServerStream) error {
		if err := send(stream, "welcome"); err != nil {
			return err
		}
		s.store(stream.Context(), "late")
		return nil
	}
	s.finish(s.open(chatMethod), codes.Aborted, "welcome")
}

func TestMessagesGoBothWaysInOneTransactionUntilTheFirstIsSent(t *testing.T) {
	s := newSite(t)
	s.stream = func(stream grpc.ServerStream) error {
		for {
			order := &text{}
			if err := stream.RecvMsg(order); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			s.store(stream.Context(), order.GetValue())
			if order.GetValue() == "b" {
				if err := send(stream, "got b"); err != nil {
					return err
				}
				s.wantRows("a", "b")
			}
		}
	}
	stream := s.open(chatMethod)
	if err := send(stream, "a", "b", "c", "d"); err != nil {
		t.Fatal(err)
	}
	s.finish(stream, codes.OK, "got b")
	s.wantRows("a", "b", "c", "d")
}

func TestThePolicyIsAskedAtTheFirstMessageAndAtTheEnd(t *testing.T) {
	var asked []codes.Code
	s := newSite(t, grpcscope.CommitWhen(func(c grpcscope.Call, code codes.Code) bool {
		if c.FullMethod != chatMethod || !c.ClientStream || !c.ServerStream {
			t.Errorf("the call is %v", c)
		}
		asked = append(asked, code)
		return code == codes.NotFound
	}))
	s.stream = func(stream grpc.ServerStream) error {
		s.store(stream.Context(), "early")
		if err := send(stream, "first", "second"); err != nil {
			return err
		}
		s.store(stream.Context(), "late")
		return status.Error(codes.NotFound, "no")
	}
	s.finish(s.open(chatMethod), codes.NotFound, "first", "second")
	if !slices.Equal(asked, []codes.Code{codes.OK, codes.NotFound}) {
		t.Errorf("the policy was asked about %v", asked)
	}
	s.wantRows("late")
}

func TestHeadersThatGoAheadDecideNothing(t *testing.T) {
	s := newSite(t)
	s.stream = func(stream grpc.ServerStream) error {
		s.store(stream.Context(), "row")
		stream.SetTrailer(metadata.Pairs("x-trailer", "3"))
		err := errors.Join(
			stream.SetHeader(metadata.Pairs("x-header", "1")),
			stream.SendHeader(metadata.Pairs("x-sent", "2")))
		s.wantRows()
		return errors.Join(err, send(stream, "first"))
	}
	stream := s.open(watchMethod)
	header, err := stream.Header()
	if err != nil || header.Get("x-header") == nil || header.Get("x-sent") == nil {
		t.Errorf("the client got the headers %v, %v", header, err)
	}
	s.finish(stream, codes.OK, "first")
	if trailer := stream.Trailer(); trailer.Get("x-trailer") == nil {
		t.Errorf("the client got the trailers %v", trailer)
	}
	s.wantRows("row")
}

func TestAnErrorWhoseStatusIsOKIsNoSuccessToTheClient(t *testing.T) {
	s := newSite(t)
	s.stream = func(stream grpc.ServerStream) error {
		s.store(stream.Context(), "row")
		return notAnError{errors.New("half done")}
	}
	s.finish(s.open(watchMethod), codes.Internal)
	s.wantRows()
	s.place = s.stores(notAnError{errors.New("half done")})
	if _, err := s.send(); err == nil {
		t.Error("the client was told of a success")
	}
	s.wantRows()
}
