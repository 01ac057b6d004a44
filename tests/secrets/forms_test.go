package secrets_test

import (
	"net/url"
	"strings"
)

// forms are data source names as they are written, and as they are written by
// mistake. PASSWORD stands for a password as it is, ESCAPED for one in which all
// that a URL could misread is escaped, QUOTED for one within single quotes. Nobody
// listens on port 1. A URL that a password with an @ makes complete, because the
// rest is missing, is not among them: it is a good one, of another host.
var forms = []string{
	"postgres://app:PASSWORD@127.0.0.1:1/shop",
	"postgres://app:ESCAPED@127.0.0.1:1/shop",
	"postgres://app:PASSWORD@127.0.0.1:1/shop?sslmode=disable&connect_timeout=1",
	"postgresql://app:PASSWORD@127.0.0.1:1,127.0.0.1:2/shop?target_session_attrs=any",
	"postgres://127.0.0.1:1/shop?user=app&password=PASSWORD",
	"postgres://127.0.0.1:1/shop?user=app&password=ESCAPED&sslmode=disable",
	"postgres://app@127.0.0.1:1/shop?sslpassword=PASSWORD&sslmode=disable",
	"postgres://app@127.0.0.1:1/shop?passwd=PASSWORD",
	"postgres://app:ESCAPED@127.0.0.1:1/shop?pool_max_conns=none&sslmode=disable",
	"postgres://app:PASSWORD@127.0.0.1:1/",
	"postgres://app:PASSWORD@127.0.0.1:1",
	"postgres://app:PASSWORD@127.0.0.1:none/shop",
	"postgres://app:PASSWORD@127.0.0.1:1/shop?sslmode=PASSWORD",
	"postgres://app:PASSWORD@127.0.0.1:1/shop?connect_timeout=none",
	"postgres://app:PASSWORD@127.0.0.1:1/shop#x",
	"postgres://app:PASSWORD@",
	"postgres:/app:PASSWORD@127.0.0.1:1/shop",
	"postgers://app:PASSWORD@127.0.0.1:1/shop",
	" postgres://app:PASSWORD@127.0.0.1:1/shop",
	"host=127.0.0.1 port=1 user=app password=PASSWORD dbname=shop sslmode=disable",
	"host=127.0.0.1 port=1 user=app password='PASSWORD' dbname=shop sslmode=disable",
	"host=127.0.0.1 port=1 user=app password='QUOTED' dbname=shop sslmode=disable",
	"host=127.0.0.1 port=1 user=app password=\"PASSWORD\" dbname=shop",
	"host=127.0.0.1 port=1 user=app dbname=shop password=PASSWORD",
	"password=PASSWORD host=127.0.0.1 port=none",
	"host=127.0.0.1 port=1 passwd=PASSWORD dbname=shop",
	"host=127.0.0.1 port=1 dbname=shop sslmode=disable sslpassword=PASSWORD",
	"host=127.0.0.1 port=1 password = PASSWORD dbname = shop",
	"host=127.0.0.1 port=1 password:PASSWORD dbname=shop",
	"app:PASSWORD@tcp(127.0.0.1:1)/shop",
	"app:ESCAPED@tcp(127.0.0.1:1)/shop?parseTime=true",
	"app:PASSWORD@tcp(127.0.0.1:1)/shop?parseTime=PASSWORD&timeout=PASSWORD",
	"app:PASSWORD@tcp(127.0.0.1:1)/shop?tls=PASSWORD",
	"app:PASSWORD@unix(/nowhere/db.sock)/shop",
	"app:PASSWORD@tcp(127.0.0.1:1)",
	"app:PASSWORD@tcp(127.0.0.1:1/shop",
	"app:PASSWORD@/shop?timeout=1ms",
	"app:PASSWORD",
	"file:/nowhere/shop.db?_pragma=key('PASSWORD')&_txlock=immediate",
	"file:/nowhere/shop.db?_auth&_auth_user=app&_auth_pass=PASSWORD",
	"/nowhere/shop.db?_key=PASSWORD",
	"sqlserver://sa:PASSWORD@127.0.0.1:1?database=shop",
	"sqlserver://sa:ESCAPED@127.0.0.1:1?database=shop&access_token=PASSWORD",
	"server=127.0.0.1;port=1;user id=sa;password=PASSWORD;database=shop",
	"app/PASSWORD@127.0.0.1:1/shop",
	"https://127.0.0.1:1/PASSWORD/shop?token=PASSWORD",
	"libsql://shop.example?authToken=PASSWORD",
	"registered:PASSWORD",
}

// write makes a data source name of a form.
func write(form, password string) string {
	return strings.NewReplacer(
		"PASSWORD", password,
		"ESCAPED", strings.ReplaceAll(url.QueryEscape(password), "+", "%20"),
		"QUOTED", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password),
	).Replace(form)
}

// letters are those of passwords: in no other text are two of them so close together.
const letters = "ZQXJVKWY"

// signs are what a data source name may be misread at.
const signs = "@:/?#%&=+ '\"\\,;()[]{}$!~-_.<>|^`*\t\n\x00\x7f\xff"

// password makes a password of any bytes.
func password(raw string) string {
	if len(raw) > 200 {
		raw = raw[:200]
	}
	b := []byte("ZQXJ"[:min(4, len(raw))]) // something to look for
	for i := range len(raw) {
		if c := raw[i]; c < 96 { // letters mostly
			b = append(b, signs[int(c)%len(signs)])
		} else {
			b = append(b, letters[int(c)%len(letters)])
		}
	}
	return string(b)
}

// parts are the pieces of a password that nothing may hold, of four bytes each.
func parts(password string) (parts []string) {
	for i := 0; i+4 <= len(password); i++ {
		part, found := password[i:i+4], 0
		for _, c := range []byte(part) {
			if strings.IndexByte(letters, c) >= 0 {
				found++
			}
		}
		if found > 1 { // else it may be in any text
			parts = append(parts, part)
		}
	}
	return parts
}
