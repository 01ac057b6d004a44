package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/dbscope/dbscope"
)

// csvOf makes a good import.
func csvOf(lines int) *bytes.Buffer {
	b := bytes.NewBufferString(importHeader + "\n")
	for i := range lines {
		fmt.Fprintf(b, "customer %d,tea,1\n", i)
	}
	return b
}

type importAnswer struct {
	problem
	Imported int `json:"imported"`
}

func (s *service) importCSV(t *testing.T, csv io.Reader) (status int, a importAnswer) {
	t.Helper()
	status = s.call(t, "POST", "/imports", csv, &a)
	return status, a
}

func TestAnImportPlacesAllItsOrders(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const lines = 3000
		// Without the length of the body, which is then sent in chunks.
		status, answer := s.importCSV(t, iotest.OneByteReader(csvOf(lines)))
		checkEqual(t, "status", status, http.StatusOK)
		checkEqual(t, "imported", answer.Imported, lines)
		s.checkStored(t, lines, lines, fullStock-lines)
	})
}

func TestABadLineUndoesTheWholeImportAndIsNamed(t *testing.T) {
	tests := []struct {
		line   string // the last one
		status int
		why    string
	}{
		{"eve,unicorn,1", http.StatusUnprocessableEntity, "no such article: unicorn"}, // after 2000 orders
		{"eve,last-cup,2", http.StatusConflict, "out of stock: 1 of last-cup left"},
		{"eve,tea,many", http.StatusUnprocessableEntity, `quantity "many" is not a number`},
		{"eve,tea,0", http.StatusUnprocessableEntity, "quantity must be 1 to 1000, not 0"},
		{"eve,tea", http.StatusUnprocessableEntity, "wrong number of fields"},
		{`eve,"tea,1`, http.StatusUnprocessableEntity, `extraneous or missing " in quoted-field`},
	}
	const good = 2000
	onEachDatabase(t, func(t *testing.T, s *service) {
		for _, test := range tests {
			csv := csvOf(good)
			fmt.Fprintln(csv, test.line)
			status, answer := s.importCSV(t, csv)
			checkEqual(t, "status of "+test.line, status, test.status)
			checkEqual(t, "line of "+test.line, answer.Line, good+2) // one is the header
			if !strings.HasPrefix(answer.Error, "line 2002: ") || !strings.HasSuffix(answer.Error, test.why) {
				t.Errorf("the error is %q, want line 2002 and %q", answer.Error, test.why)
			}
		}
		s.checkStored(t, 0, 0, fullStock)
	})
}

func TestAnImportWithoutItsHeaderIsRefused(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		for _, body := range []string{"", "ada,tea,1\n", "customer\n"} {
			status, answer := s.importCSV(t, strings.NewReader(body))
			checkEqual(t, "status", status, http.StatusUnprocessableEntity)
			checkEqual(t, "line", answer.Line, 1)
		}
		s.checkStored(t, 0, 0, fullStock)
	})
}

func TestAnImportThatIsTooLargeIsRefused(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		line := strings.Repeat("a", maxName) + ",tea,1\n"
		long := importHeader + "\n" + strings.Repeat(line, maxImportBytes/len(line)+1)
		tests := map[string]io.Reader{
			"request body too large": strings.NewReader(long),
			ErrTooLong.Error():       csvOf(maxImportLines + 1),
		}
		for why, body := range tests {
			status, answer := s.importCSV(t, body)
			checkEqual(t, "status", status, http.StatusRequestEntityTooLarge)
			if !strings.Contains(answer.Error, why) {
				t.Errorf("the error is %q, want %q", answer.Error, why)
			}
		}
		s.checkStored(t, 0, 0, fullStock)
	})
}

func TestNobodyWaitsForAnImportThatIsStillComingIn(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		body, client := io.Pipe()
		done := make(chan int)
		go func() {
			status, _ := s.importCSV(t, body)
			done <- status
		}()
		const lines = 200
		half := csvOf(lines).Bytes()
		half, rest := half[:len(half)/2], half[len(half)/2:]
		_, _ = client.Write(half) // it fails where the service does, and that is checked
		s.mustPlace(t, Wish{"ada", "tea", 1})
		_, _ = client.Write(rest)
		closeIt(t, client)
		checkEqual(t, "status", <-done, http.StatusOK)
		s.checkStored(t, lines+1, lines+1, fullStock-lines-1)
	})
}

func TestImportsSideBySideAreAllStored(t *testing.T) {
	const imports, lines = 4, 200
	onEachDatabase(t, func(t *testing.T, s *service) {
		side(imports, func(i int) {
			first, second := "tea", "coffee"
			if i%2 == 1 { // the other way round, which must not be a deadlock
				first, second = second, first
			}
			csv := bytes.NewBufferString(importHeader + "\n")
			for n := range lines {
				sku := first
				if n >= lines/2 {
					sku = second
				}
				fmt.Fprintf(csv, "customer %d,%s,1\n", n, sku)
			}
			status, _ := s.importCSV(t, csv)
			checkEqual(t, "status", status, http.StatusOK)
		})
		const all = imports * lines
		s.checkStored(t, all, all, fullStock-all/2)
	})
}

// The shop knows nothing of HTTP: a job is a unit of work all the same.
func TestAShopWorksWithoutHTTP(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := NewShop(s.db.DB).Import(ctx, csvOf(10))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.checkStored(t, 10, 10, fullStock-10)
	})
}

func TestTheServiceStartsSaysWhatToTryAndStops(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-addr=127.0.0.1:0", "-db=" + filepath.Join(t.TempDir(), "orders.db")}, in)
		closeIt(t, in)
	}()
	help := make([]byte, 32<<10)
	n, err := out.Read(help)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(help[:n]), "http://")
	host, _, _ := strings.Cut(rest, "/")
	resp, err := http.Get("http://" + host + "/stock")
	if err != nil {
		t.Fatal(err)
	}
	closeIt(t, resp.Body)
	checkEqual(t, "status", resp.StatusCode, http.StatusOK)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
