package dsn_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/dbscope/dbscope/internal/dsn"
)

func TestADatabaseHasTheNameThatItsStringSaysWithoutDoubt(t *testing.T) {
	for _, c := range []struct{ driver, text, name string }{
		{"pgx", "postgres://app:secret@db:5432/shop?sslmode=disable", "shop"},
		{"pgx", "postgresql://app@a:1,b:2/shop", "shop"},
		{"pgx", "postgres://app@{host}/shop", "shop"},
		{"pgx", "postgres://[::1]:5432/shop", "shop"},
		{"pgx", "postgres://%2Fvar%2Frun/shop", "shop"},
		{"pgx", "postgres://app@db?dbname=shop", "shop"},
		{"pgx", "postgres://app:%40%2F%3F@db/shop", "shop"},
		{"pgx", "host=db dbname=shop user=app", "shop"},
		{"pgx", "host=db dbname='shop' password='se\\'cret'", "shop"},
		{"pgx", "host=db dbname=shop password=Zm9v/YmFy==", "shop"},
		{"mysql", "app:hunter2?@tcp(127.0.0.1:1)/shop", "shop"},
		{"mysql", "app:a@b/c:d@tcp({host})/shop?charset=utf8mb4,utf8", "shop"},
		{"sqlite", `C:\data\orders.db`, "orders.db"},
		{"sqlite", "file:orders.db?mode=memory&_pragma=busy_timeout(5000)", "orders.db"},

		{"pgx", "postgres://app:hunter2?x@h/shop", ""},
		{"pgx", "postgres://app:hun/ter2@h/shop", ""},
		{"pgx", "postgres://app:hun@ter2@h/shop", ""},
		{"pgx", "postgres://app:hun#ter2@h/shop", ""},
		{"pgx", "postgres://app:hun%ter2@h/shop", ""},
		{"pgx", "postgres://app@h/shop?x=y@z", ""},
		{"pgx", "postgres://app@h/a b", ""},
		{"pgx", "postgres://app:shop@h/shop", ""},
		{"pgx", "postgres://app@h", ""},
		{"pgx", "host=db password=hun dbname=ter2 dbname=shop", ""},
		{"pgx", "host=db dbname='a b'", ""},
		{"pgx", "host=db dbname=postgres://app:hunter2@h/shop", ""},
		{"pgx", "password=hunter2", ""},
		{"mysql", "app:hunter2/shop", ""},
		{"mysql", "app:hunter2@tcp(h)/shop?x=/y", ""},
		{"mysql", "app:hun@ter2/shop", ""},
		{"sqlite", "file:{host}?mode=rwc", ""},
		{"sqlite", "app:hunter2@h/shop", ""},
		{"nosuch", "scott/tiger", ""},
		{"nosuch", "sqlserver://sa:hunter2@h/shop", ""},
		{"nosuch", "", ""},
	} {
		if name := dsn.Read(c.driver, c.text).Name(); name != c.name {
			t.Errorf("%q is called %q, want %q", c.text, name, c.name)
		}
	}
}

type fieldError struct{ DSN string }

func (fieldError) Error() string { return "refused" }

func TestAnErrorIsMaskedWhereAnyWayToPrintItHasAPieceOfASecret(t *testing.T) {
	source := dsn.Read("pgx", "postgres://app:s3cr%2Fet%22%C3%A9x@db:1/shop?token=a%2Bb+cdef&sslmode=disable")
	for _, text := range []string{
		"s3cr", "is S3CR", "s3cr%2Fet", `lookup s3cr/et"éx`, fmt.Sprintf("%q", `r/et"éx`), fmt.Sprintf("%+q", `r/et"é`), "parameter token", "a+b cdef", "a%2Bb+cdef", "cdef",
	} {
		for name, err := range map[string]error{
			"alone": errors.New(text), "within": fmt.Errorf("connecting: %w", errors.New(text)), "joined": errors.Join(syscall.EINTR, errors.New(text)),
			"in a field": fieldError{text}, "in a field behind a pointer": &fieldError{text}, "a field within": fmt.Errorf("connecting: %w", &fieldError{text}),
		} {
			masked := source.Mask(err)
			if masked == err || strings.Contains(masked.Error(), text) || errors.As(masked, new(fieldError)) || errors.As(masked, new(*fieldError)) { //nolint:errorlint // the very one
				t.Errorf("%s: %q: %v", name, text, masked)
			}
		}
	}
	for _, err := range []error{
		syscall.ECONNREFUSED, errors.New("user app of shop at db:1 with sslmode=disable"), fieldError{"shop"}, &fieldError{"nothing"},
	} {
		if masked := source.Mask(err); masked != err { //nolint:errorlint // the very one
			t.Errorf("%v became %v", err, masked)
		}
	}
	if dsn.Read("pgx", "nonsense").Mask(nil) != nil || new(dsn.Source).Mask(nil) != nil {
		t.Error("no error became one")
	}
}

func TestAPasswordThatIsShorterThanAPieceIsLookedForAsAWhole(t *testing.T) {
	for password, texts := range map[string][]string{
		"pw":  {"near pw", `near "pw"`, "pw@h"},
		"a[":  {"near a[b", `"a["`},
		"]zz": {"a]zz"},
		"q":   {"near q"},
	} {
		source := dsn.Read("pgx", "host=h user=app password="+password+" dbname=shop")
		for _, text := range texts {
			if masked := source.Mask(errors.New(text)); strings.Contains(masked.Error(), text) {
				t.Errorf("%q is shown: %v", text, masked)
			}
		}
		if err := errors.New("dial tcp 127.0.0.1:1: connect: connection refused"); source.Mask(err) != err { //nolint:errorlint // the very one
			t.Errorf("%q: an error without it is not shown", password)
		}
	}
}

func TestOfAStringThatIsNotClearEachWordIsASecret(t *testing.T) {
	source := dsn.Read("nosuch", "ab:pw@{host}/x y")
	for _, text := range []string{"no pw here", "x", "host", "near w@{"} {
		if masked := source.Mask(errors.New(text)); strings.Contains(masked.Error(), text) {
			t.Errorf("%q is shown: %v", text, masked)
		}
	}
	if err := errors.New("ORA-01017: invalid credential"); source.Mask(err) != err { //nolint:errorlint // the very one
		t.Error("an error without a piece of it is not shown")
	}
}
