package httpscope_test

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

var quickly = dbscope.RetryPolicy{Attempts: 3, MinDelay: time.Microsecond}

// retrySite stores the request's body, each attempt with a response of its own.
func retrySite(t *testing.T, opts ...httpscope.Option) (s *site, attempts *int) {
	attempts = new(int)
	s = newSite(t, func(s *site, w http.ResponseWriter, r *http.Request) {
		*attempts++
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("X-Seen") != "" {
			t.Error("the headers are those that the first attempt left")
		}
		r.Header.Set("X-Seen", "yes")
		w.Header().Add("X-Attempt", "one more")
		if drivertest.Exec(r.Context(), s.db, string(body)) != nil {
			http.Error(w, "undone", http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, "stored "+string(body))
	}, append([]httpscope.Option{httpscope.Retry(quickly, 10)}, opts...)...)
	return s, attempts
}

func (s *site) post(body io.Reader) (*http.Response, string) {
	s.t.Helper()
	resp, err := s.Client().Post(s.URL, "text/plain", body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, s.read(resp)
}

func TestARequestThatTheDatabaseUndidIsServedAgain(t *testing.T) {
	for step, fault := range map[string]drivertest.Fault{
		"exec":   {Err: drivertest.ErrTransient, Fate: driver.Aborted},
		"commit": {Err: drivertest.ErrTransient, Outcome: driver.RolledBack},
	} {
		s, attempts := retrySite(t)
		s.fake.Inject(step, fault)
		s.fake.Inject(step, fault)
		resp, body := s.post(strings.NewReader("row"))
		s.want(resp.StatusCode, body, 200, "stored row")
		if got := resp.Header.Values("X-Attempt"); len(got) != 1 {
			t.Errorf("%s: headers of %d attempts", step, len(got))
		}
		s.wantRows("row")
		s.wantErrors()
		if *attempts != 3 {
			t.Errorf("%s: %d attempts", step, *attempts)
		}
	}
}

func TestEachAttemptReadsTheFormAnew(t *testing.T) {
	for name, read := range map[string]func(*http.Request) (io.Reader, error){
		"a value": func(r *http.Request) (io.Reader, error) { return strings.NewReader(r.FormValue("item")), nil },
		"a file": func(r *http.Request) (io.Reader, error) {
			err := r.ParseMultipartForm(1) // the file is on disk
			if err != nil {
				return nil, err
			}
			return r.MultipartForm.File["file"][0].Open()
		},
		"parts": func(r *http.Request) (io.Reader, error) {
			parts, err := r.MultipartReader()
			if err != nil {
				return nil, err
			}
			return parts.NextPart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			s := newSite(t, func(s *site, _ http.ResponseWriter, r *http.Request) {
				from, err := read(r)
				if err != nil {
					t.Error(err)
					return
				}
				row, err := io.ReadAll(io.LimitReader(from, 3))
				if file, ok := from.(io.Closer); ok {
					err = errors.Join(err, file.Close())
				}
				if err != nil {
					t.Error(err)
				}
				s.store(r.Context(), string(row))
			}, httpscope.Retry(quickly, 8<<10))
			s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
			s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
			s.upload("tea")
			s.wantRows("tea")
			s.Close()
			if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
				t.Errorf("the files of the form are left: %q", files)
			}
		})
	}
}

func TestAFormThatWasReadOutsideIsThereForEachAttempt(t *testing.T) {
	s := prepare(t)
	scoped := s.wrap(func(_ http.ResponseWriter, r *http.Request) {
		file, err := r.MultipartForm.File["file"][0].Open()
		if err != nil {
			t.Error(err)
			return
		}
		_ = file.Close()
		s.store(r.Context(), r.FormValue("item"))
	}, httpscope.Retry(quickly, 8<<10))
	s.Server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		scoped.ServeHTTP(w, r)
	}), false)
	s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	s.upload("tea")
	s.wantRows("tea")
}

// upload posts a form with an item, which is answered with 200.
func (s *site) upload(item string) {
	s.t.Helper()
	body, contentType := upload(s.t, item)
	resp, err := s.Client().Post(s.URL, contentType, body)
	if err != nil {
		s.t.Fatal(err)
	}
	s.want(resp.StatusCode, s.read(resp), 200, "")
}

// upload is the body of a form with an item, and a file that begins with it.
func upload(t testing.TB, item string) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = new(bytes.Buffer)
	form := multipart.NewWriter(body)
	part, err := form.CreateFormFile("file", "name")
	if err == nil {
		_, err = part.Write(append([]byte(item), make([]byte, 4<<10)...))
	}
	if err = errors.Join(err, form.WriteField("item", item), form.Close()); err != nil {
		t.Fatal(err)
	}
	return body, form.FormDataContentType()
}

func TestTheLastAttemptsResponseIsSent(t *testing.T) {
	s, _ := retrySite(t)
	for range 3 {
		s.fake.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
	}
	resp, body := s.post(strings.NewReader("row"))
	s.want(resp.StatusCode, body, 409, "undone\n")
	for range 3 {
		s.fake.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	}
	resp, body = s.post(strings.NewReader("row"))
	s.want(resp.StatusCode, body, 500, page)
	s.wantRows()
	s.wantErrors(drivertest.ErrTransient)
}

func TestARequestIsServedOnceWhere(t *testing.T) {
	transient := drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack}
	for name, c := range map[string]struct {
		fault drivertest.Fault
		body  io.Reader
		opts  []httpscope.Option
	}{
		"the failure is not transient": {fault: drivertest.Fault{Err: errInjected, Outcome: driver.RolledBack}, body: strings.NewReader("row")},
		"the outcome is unknown":       {fault: drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.Unknown}, body: strings.NewReader("row")},
		"the body is too large":        {fault: transient, body: strings.NewReader("a row too long")},
		"a body is, of unknown length": {fault: transient, body: io.MultiReader(strings.NewReader("a row"), strings.NewReader(" too long"))},
		"the response has begun":       {fault: transient, body: strings.NewReader("row"), opts: []httpscope.Option{httpscope.HoldLimit(0)}},
	} {
		s, attempts := retrySite(t, c.opts...)
		s.fake.Inject("commit", c.fault)
		resp, body := s.post(c.body)
		s.want(resp.StatusCode, body, 500, page)
		if *attempts != 1 {
			t.Errorf("%s: %d attempts", name, *attempts)
		}
		resp, body = s.post(strings.NewReader("next"))
		s.want(resp.StatusCode, body, 200, "stored next")
	}
}
