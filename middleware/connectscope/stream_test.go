package connectscope_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/connectscope"
)

func serveOnce(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

type watcher = func(context.Context, *connect.Request[text], *connect.ServerStream[text]) error

// watches is a streaming handler that needs no request.
func watches(f func(context.Context, *connect.ServerStream[text]) error) watcher {
	return func(ctx context.Context, _ *connect.Request[text], stream *connect.ServerStream[text]) error {
		return f(ctx, stream)
	}
}

func TestAStreamWithoutAMessageIsDecidedAtItsEnd(t *testing.T) {
	for _, err := range []error{nil, refuse(connect.CodeNotFound, "no")} {
		s := newSite(t)
		s.watch = watches(func(ctx context.Context, _ *connect.ServerStream[text]) error {
			s.store(ctx, "row")
			return err
		})
		_, got := s.receive()
		if err == nil {
			wantCode(t, got, 0)
			s.wantRows("row")
		} else {
			wantCode(t, got, connect.CodeNotFound)
			s.wantRows()
		}
	}
}

func TestACommitAtTheFirstMessageThatFails(t *testing.T) {
	for name, c := range failures {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.fake.Inject("commit", c.fault)
			s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
				s.store(ctx, "early")
				for range 2 {
					err := stream.Send(message("stored"))
					wantCode(t, err, c.code)
					if !errors.Is(err, errInjected) {
						t.Errorf("Send returned %v", err)
					}
				}
				s.store(ctx, "late")
				return nil // the handler overlooks it
			})
			got, err := s.receive()
			wantCode(t, err, c.code)
			wantMessages(t, got)
			s.wantRows()
			s.wantErrors(errInjected)
		})
	}
}

func TestWorkAfterTheFirstMessageIsATransactionOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		fault drivertest.Fault
		code  connect.Code
		rows  []string
		errs  []error
	}{
		"that is committed":   {nil, drivertest.Fault{}, 0, []string{"early", "late"}, nil},
		"undone by an error":  {refuse(connect.CodeNotFound, "no"), drivertest.Fault{}, connect.CodeNotFound, []string{"early"}, nil},
		"whose commit fails":  {nil, failures["that is not worth another call"].fault, connect.CodeInternal, []string{"early"}, []error{errInjected}},
		"that had a conflict": {nil, failures["for a conflict"].fault, connect.CodeInternal, []string{"early"}, []error{errInjected}},
		"that may be stored":  {nil, failures["whose outcome is unknown"].fault, connect.CodeInternal, []string{"early"}, []error{errInjected}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
				s.store(ctx, "early")
				if err := stream.Send(message("first")); err != nil {
					return err
				}
				s.store(ctx, "late")
				if err := stream.Send(message("second")); err != nil {
					return err
				}
				s.wantRows("early")
				s.fake.Inject("commit", c.fault)
				return c.err
			})
			got, err := s.receive()
			wantCode(t, err, c.code)
			wantMessages(t, got, "first", "second")
			s.wantRows(c.rows...)
			s.wantErrors(c.errs...)
		})
	}
}

func TestAClientStreamIsDecidedAtItsResponse(t *testing.T) {
	failing := failures["for a conflict"]
	for name, c := range map[string]struct {
		err   error
		fault drivertest.Fault
		code  connect.Code
		rows  []string
		errs  []error
	}{
		"that is sent":       {nil, drivertest.Fault{}, 0, []string{"a", "b"}, nil},
		"that is an error":   {refuse(connect.CodeNotFound, "no"), drivertest.Fault{}, connect.CodeNotFound, nil, nil},
		"whose commit fails": {nil, failing.fault, failing.code, nil, []error{errInjected}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.fake.Inject("commit", c.fault)
			s.upload = func(ctx context.Context, stream *connect.ClientStream[text]) (*connect.Response[text], error) {
				for stream.Receive() {
					s.store(ctx, stream.Msg().GetValue())
				}
				answer := response("stored")
				answer.Trailer().Set("X-Trailer", "1")
				return answer, errors.Join(stream.Err(), c.err)
			}
			stream := s.client(uploadMethod).CallClientStream(t.Context())
			if err := errors.Join(stream.Send(message("a")), stream.Send(message("b"))); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.CloseAndReceive()
			<-s.ended
			wantCode(t, err, c.code)
			if err == nil && (answer.Msg.GetValue() != "stored" || answer.Trailer().Get("X-Trailer") != "1") {
				t.Errorf("the client got %v with %v", answer.Msg, answer.Trailer())
			}
			s.wantRows(c.rows...)
			s.wantErrors(c.errs...)
		})
	}
}

func TestMessagesGoBothWaysInOneTransactionUntilTheFirstIsSent(t *testing.T) {
	s := newSite(t)
	s.chat = func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
		for {
			order, err := stream.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			s.store(ctx, order.GetValue())
			if order.GetValue() == "b" {
				if err := stream.Send(message("got b")); err != nil {
					return err
				}
				s.wantRows("a", "b")
			}
		}
	}
	stream := s.client(chatMethod).CallBidiStream(t.Context())
	for _, order := range []string{"a", "b", "c", "d"} {
		if err := stream.Send(message(order)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := stream.Receive(); got.GetValue() != "got b" || err != nil {
		t.Errorf("the client got %v, %v", got, err)
	}
	if err := stream.CloseRequest(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	_ = stream.CloseResponse()
	<-s.ended
	s.wantRows("a", "b", "c", "d")
	s.wantErrors()
}

func TestThePolicyIsAskedAtTheFirstMessageAndAtTheEnd(t *testing.T) {
	var asked []connect.Code
	s := newSite(t, connectscope.CommitWhen(func(c connectscope.Call, code connect.Code) bool {
		if c.Spec.Procedure != watchMethod || c.Spec.StreamType != connect.StreamTypeServer || c.Header == nil || c.Peer.Addr == "" {
			t.Errorf("the call is %v", c)
		}
		asked = append(asked, code)
		return code == connect.CodeNotFound
	}))
	s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
		s.store(ctx, "early")
		if err := errors.Join(stream.Send(message("first")), stream.Send(message("second"))); err != nil {
			return err
		}
		s.store(ctx, "late")
		return refuse(connect.CodeNotFound, "no")
	})
	got, err := s.receive()
	wantCode(t, err, connect.CodeNotFound)
	wantMessages(t, got, "first", "second")
	if !slices.Equal(asked, []connect.Code{0, connect.CodeNotFound}) {
		t.Errorf("the policy was asked about %v", asked)
	}
	s.wantRows("late")
}

func TestHeadersThatGoAheadDecideNothing(t *testing.T) {
	s := newSite(t)
	sent := make(chan struct{})
	s.watch = watches(func(ctx context.Context, stream *connect.ServerStream[text]) error {
		s.store(ctx, "row")
		stream.ResponseHeader().Set("X-Header", "1")
		stream.ResponseTrailer().Set("X-Trailer", "2")
		if err := stream.Send(nil); err != nil {
			return err
		}
		<-sent
		s.wantRows()
		return stream.Send(message("first"))
	})
	stream, err := s.client(watchMethod).CallServerStream(t.Context(), request("order"))
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.ResponseHeader().Get("X-Header"); got != "1" {
		t.Errorf("the client got the headers %v", stream.ResponseHeader())
	}
	close(sent)
	if !stream.Receive() || stream.Receive() || stream.Err() != nil {
		t.Errorf("the stream ended with %v", stream.Err())
	}
	if got := stream.ResponseTrailer().Get("X-Trailer"); got != "2" {
		t.Errorf("the client got the trailers %v", stream.ResponseTrailer())
	}
	_ = stream.Close()
	<-s.ended
	s.wantRows("row")
	s.wantErrors()
}

func TestAnErrorWithoutACodeIsNoSuccessToTheClient(t *testing.T) {
	s := newSite(t)
	half := connect.NewError(0, errors.New("half done"))
	s.place = func(ctx context.Context, _ *connect.Request[text]) (*connect.Response[text], error) {
		s.store(ctx, "row")
		return nil, half
	}
	s.watch = watches(func(ctx context.Context, _ *connect.ServerStream[text]) error {
		s.store(ctx, "row")
		return half
	})
	for name, protocol := range map[string]connect.ClientOption{
		"Connect": connect.WithClientOptions(), "gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb(),
	} {
		_, err := s.send(protocol)
		if err == nil {
			t.Errorf("%s: a unary call succeeded", name)
		}
		stream, err := s.client(watchMethod, protocol).CallServerStream(t.Context(), request(""))
		if err != nil {
			t.Fatal(err)
		}
		for stream.Receive() {
		}
		if stream.Err() == nil {
			t.Errorf("%s: a stream succeeded", name)
		}
		_ = stream.Close()
	}
	s.wantRows()
}
