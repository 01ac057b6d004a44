package browser_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program is the example, built once.
var program = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "orders")
	args := append([]string{"build", "-o", file}, buildFlags...)
	if os.Getenv("SCREENSHOTS") != "" {
		args = append(args, "-trimpath") // no path of this machine is in a picture
	}
	build := exec.Command("go", append(args, "./orders")...)
	build.Dir = "../../examples"
	if out, err := build.CombinedOutput(); err != nil {
		_, _ = os.Stderr.Write(out)
		return "", err
	}
	return file, nil
})

// startOrders runs the example, as its two-word command does, on a database of its
// own, and returns where it is.
func startOrders(t *testing.T) (site string) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "-addr=127.0.0.1:0", "-db="+filepath.Join(t.TempDir(), "orders.db"))
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "HOSTS=")
	logs := &strings.Builder{}
	cmd.Stderr = logs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, out) // until it has ended
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(logs)
		}
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	_, rest, found := strings.Cut(first, "http://")
	host, _, _ := strings.Cut(rest, "/")
	if err != nil || !found {
		t.Fatalf("the service says %q (%v)", first, err)
	}
	return "http://" + host
}

// order is what the service knows of one.
type order struct{ ID, Customer, SKU, Status string }

// ordersOf asks the service, and not its page.
func ordersOf(t *testing.T, site string) []order {
	t.Helper()
	resp, err := http.Get(site + "/orders?limit=100")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // all of it is read
	var page struct{ Orders []order }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	return page.Orders
}
