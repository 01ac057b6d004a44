package grpcscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/routertest"
	"github.com/dbscope/dbscope/middleware/grpcscope"
	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

func TestTheInterceptorsCarryTokens(t *testing.T) {
	for method := range methods {
		t.Run(method, func(t *testing.T) {
			routertest.RunRPC(t, withTokens(method, grpcscope.ReadOnly(func(c grpcscope.Call) bool {
				return metadata.ValueFromIncomingContext(c.Context, routertest.Safe) != nil
			})), ask(method))
			routertest.RunUnscopedRPC(t, withTokens(method, grpcscope.Unscoped(func(grpcscope.Call) bool { return true })), ask(method))
		})
	}
}

func withTokens(method string, opt grpcscope.Option) middlewaretest.Framework {
	return middlewaretest.Framework{Lacks: lacks(method), Serve: func(t middlewaretest.T, site middlewaretest.Site) string {
		return serveWith(t, site, opt, grpcscope.TokenMetadata(routertest.Header))
	}}
}

// ask calls a method of any kind as one that streams both ways, which is the
// same to the server.
func ask(method string) routertest.Ask {
	return func(t *testing.T, url string, brought map[string]string) (int, []string) {
		t.Helper()
		conn, err := dial(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		stream, err := conn.NewStream(metadata.NewOutgoingContext(t.Context(), metadata.New(brought)),
			&grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(send(stream, "order"), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		code := 200
		if _, err := receive(stream); !errors.Is(err, io.EOF) {
			code = answer(nil, nil, err).Status
		}
		if header, _ := stream.Header(); header.Get(routertest.Header) != nil {
			t.Errorf("the token is in the headers %v", header)
		}
		return code, stream.Trailer().Get(routertest.Header)
	}
}

// commit stores a row at once.
func (s *site) commit(ctx context.Context, row string) {
	s.t.Helper()
	s.store(ctx, row)
	if err := s.db.Commit(ctx); err != nil {
		s.t.Error(err)
	}
}

func (s *site) wantToken(trailer metadata.MD, want ...string) {
	s.t.Helper()
	if got := trailer.Get(routertest.Header); !slices.Equal(got, want) {
		s.t.Errorf("the trailer has the tokens %q, want %q", got, want)
	}
}

func TestATokenArrivesAlsoWhereTheHandlerHasSentHeadersItself(t *testing.T) {
	for code, token := range map[codes.Code]string{codes.OK: routertest.Token(2), codes.NotFound: routertest.Token(1)} {
		s := newSite(t, grpcscope.TokenMetadata(routertest.Header))
		_, s.db = routertest.New(t, s.fake)
		s.place = func(ctx context.Context, _ *text) (*text, error) {
			s.commit(ctx, "early")
			err := errors.Join(grpc.SendHeader(ctx, metadata.Pairs("x-sent", "1")), grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "2")))
			s.store(ctx, "late")
			if err == nil {
				err = status.Error(code, "so it is")
			}
			return &text{}, err
		}
		var header, trailer metadata.MD
		_, err := s.send(grpc.Header(&header), grpc.Trailer(&trailer))
		wantCode(t, err, code)
		s.wantToken(trailer, token)
		if header.Get("x-sent") == nil || trailer.Get("x-trailer") == nil {
			t.Errorf("the client got the headers %v and the trailers %v", header, trailer)
		}
	}
}

func TestAStreamThatWasRefusedItsFirstMessageHasTheTokenOfWhatWasCommittedBefore(t *testing.T) {
	s := newSite(t, grpcscope.TokenMetadata(routertest.Header))
	_, s.db = routertest.New(t, s.fake)
	s.stream = func(stream grpc.ServerStream) error {
		s.commit(stream.Context(), "early")
		rows := s.query(stream.Context())
		return errors.Join(send(stream, "too soon"), rows.Close())
	}
	stream := s.open(watchMethod)
	s.finish(stream, codes.Internal)
	s.wantToken(stream.Trailer(), routertest.Token(1))
}

func TestWithoutTheOptionNobodyTakesOrGivesTokens(t *testing.T) {
	s := newSite(t, grpcscope.ReadOnly(func(c grpcscope.Call) bool { return c.FullMethod == watchMethod }))
	var router *routertest.Router
	router, s.db = routertest.New(t, s.fake)
	s.place = func(ctx context.Context, _ *text) (*text, error) {
		s.commit(ctx, "row")
		if token := dbscope.WritesToken(ctx); token != "" {
			t.Errorf("there is the token %q", token)
		}
		return &text{}, nil
	}
	var trailer metadata.MD
	if _, err := s.send(grpc.Trailer(&trailer)); err != nil {
		t.Error(err)
	}
	s.wantToken(trailer)
	s.stream = func(stream grpc.ServerStream) error { return s.query(stream.Context()).Close() }
	stream, err := s.NewStream(metadata.AppendToOutgoingContext(t.Context(), routertest.Header, routertest.Token(1)),
		&grpc.StreamDesc{ServerStreams: true}, watchMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := send(stream, "order"); err != nil {
		t.Error(err)
	}
	s.finish(stream, codes.OK)
	if hosts := router.Reads(); !slices.Equal(hosts, []string{"replica"}) {
		t.Errorf("it read on %q", hosts)
	}
}

func TestATokenNeedsAPossibleName(t *testing.T) {
	for _, name := range []string{"", "x writes", "x-writes:", "ä", "writes-bin", "Grpc-Writes", "connect-writes", ":path"} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(fmt.Sprint(v), "dbscope: ") {
					t.Errorf("with %q it panicked with %v", name, v)
				}
			}()
			grpcscope.UnaryServerInterceptor(grpcscope.TokenMetadata(name))
		}()
	}
}

func TestTheClientOfTheExampleReadsWhatItWrote(t *testing.T) {
	s := newSite(t, grpcscope.TokenMetadata("x-writes"))
	var router *routertest.Router
	router, s.db = routertest.New(t, s.fake)
	s.place = func(ctx context.Context, order *text) (*text, error) {
		if order.GetValue() == "" {
			return &text{}, dbscope.Run(ctx, func(ctx context.Context) error { return s.query(ctx).Close() }, dbscope.ReadOnly())
		}
		s.commit(ctx, order.GetValue())
		return nil, status.Error(codes.NotFound, "no")
	}
	conn, err := grpc.NewClient(s.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(new(lastToken).intercept))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, order := range []string{"", "row", "", ""} {
		err := conn.Invoke(t.Context(), placeMethod, wrapperspb.String(order), &text{})
		if (err == nil) != (order == "") {
			t.Error(err)
		}
	}
	if hosts := router.Reads(); !slices.Equal(hosts, []string{"replica", "primary", "primary"}) {
		t.Errorf("it read on %q", hosts)
	}
}
