package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// An import is at most this large: it is one transaction, and others may have
// to wait for it.
const (
	maxImportBytes = 1 << 20
	maxImportLines = 20_000
)

// ErrTooLong is the error of an import with too many lines.
var ErrTooLong = fmt.Errorf("an import has at most %d lines", maxImportLines)

const importHeader = "customer,sku,quantity"

// LineError tells which line of an import is bad.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// importLine is a wish and where it comes from.
type importLine struct {
	number int
	wish   Wish
}

// Import places an order for each line of a CSV. After an error, a *LineError
// where a line is to blame, the orders placed so far are undone with the rest
// of the unit of work.
//
// The session opens with its first statement, so nothing is locked, and no
// connection taken, while the lines still come in from a client who may be
// slow.
func (s *Shop) Import(ctx context.Context, csv io.Reader) (int, error) {
	lines, err := readLines(csv)
	if err != nil {
		return 0, err
	}
	// Two imports that take the same articles in a different order could wait
	// for each other; in the same order they cannot.
	slices.SortStableFunc(lines, func(a, b importLine) int { return strings.Compare(a.wish.SKU, b.wish.SKU) })
	for _, l := range lines {
		if _, err := s.Place(ctx, l.wish); err != nil {
			return 0, &LineError{l.number, err}
		}
	}
	return len(lines), nil
}

func readLines(r io.Reader) ([]importLine, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = strings.Count(importHeader, ",") + 1
	in.ReuseRecord = true
	if err := readHeader(in); err != nil {
		return nil, err
	}
	var lines []importLine
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, csvError(err)
		}
		if len(lines) == maxImportLines {
			return nil, ErrTooLong
		}
		number, _ := in.FieldPos(0)
		wish, err := parseWish(record)
		if err != nil {
			return nil, &LineError{number, err}
		}
		lines = append(lines, importLine{number, wish})
	}
}

func readHeader(in *csv.Reader) error {
	header, err := in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return &LineError{1, fmt.Errorf("%w: the import is empty", ErrInvalid)}
	case err != nil:
		return csvError(err)
	case strings.Join(header, ",") != importHeader:
		return &LineError{1, fmt.Errorf("%w: the first line must be %s", ErrInvalid, importHeader)}
	}
	return nil
}

// csvError tells a line that is no CSV from a body that cannot be read.
func csvError(err error) error {
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		return &LineError{bad.Line, fmt.Errorf("%w: %w", ErrInvalid, bad.Err)}
	}
	return fmt.Errorf("reading the import: %w", err)
}

func parseWish(record []string) (Wish, error) {
	n, err := strconv.Atoi(record[2])
	if err != nil {
		return Wish{}, fmt.Errorf("%w: quantity %q is not a number", ErrInvalid, record[2])
	}
	w := Wish{Customer: record[0], SKU: record[1], Quantity: n}
	return w, w.Validate()
}
