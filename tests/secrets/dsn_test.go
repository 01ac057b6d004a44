package secrets_test

import "testing"

// misread are passwords at which a data source name may be misread.
var misread = []string{
	"abcdefgh", "abcd\x00efgh", "abcd\x03efgh/bdfa", "\x02bdfa", "abcd\x01efgh", "abcd\x04efgh", "abcd\x05efgh", "abcd\x06efgh",
	"abcd\x07efgh", "abcd\x08efgh", "abcd\x09efgh\x09bdfa", "abcd\x0aefgh", "abcd\x0befgh", "abcd\x0cefgh", "bdfa\x0f\x10bdfa",
	"abcd\x02efgh\x00abcd\x03efgh", "bdfa\x00\x02bdfa", "\x0a\x0abdfa", "abcd\x21efgh\x23bdfa\x24", "bdfa\x05", "bdfa\x05hh", ".Y", "7!",
}

// FuzzDSN writes data source names around random passwords.
func FuzzDSN(f *testing.F) {
	for i, raw := range misread {
		f.Add(uint8(i), uint8(i), raw)
	}
	f.Fuzz(func(t *testing.T, library, form uint8, raw string) {
		nothingLeaks(t, libraries[int(library)%len(libraries)], forms[int(form)%len(forms)], raw)
	})
}

func TestNoPartOfAPasswordLeavesInAnErrorALogLineOrAnAnswer(t *testing.T) {
	for _, library := range libraries {
		for _, form := range forms {
			for _, raw := range misread {
				nothingLeaks(t, library, form, raw)
			}
		}
	}
}

func TestNoPartOfAPasswordLeavesThroughACluster(t *testing.T) {
	for i, form := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			for j, library := range libraries {
				nothingLeaksFromACluster(t, library, form, misread[(i+j)%len(misread)])
			}
		})
	}
}
