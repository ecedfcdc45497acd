//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{5, 4, 3, 2, 1}, 0.5, 3},
		{[]float64{4, 3, 2, 1}, 0.5, 2},
		{[]float64{2, 1}, 0.99, 2},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.values, c.q, got,
				c.want)
		}
	}
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	if got := quantile(hundred, 0.99); got != 99 {
		t.Errorf("of 1 to 100, 99 of 100 are %d or less?", got)
	}
}

func TestBar(t *testing.T) {
	for part, want := range map[float64]string{
		0:          "▏", // never empty
		1.0 / 96:   "▏",
		0.5:        "██████",
		0.5 + 0.01: "██████▏",
		1:          strings.Repeat("█", barWidth),
	} {
		if got := bar(part); got != want {
			t.Errorf("bar(%v) = %q, want %q", part, got, want)
		}
	}
}

func TestDigits(t *testing.T) {
	for f, want := range map[float64]string{0.123: "0.12", 9.994: "9.99",
		9.996: "10.0", 12.34: "12.3", 99.96: "100", 123.4: "123",
		12345: "12345"} {
		if got := digits(f); got != want {
			t.Errorf("digits(%v) = %q, want %q", f, got, want)
		}
	}
}

// If the kernel tells nothing about one of the CPUs, the answer is not known.
func TestOneCore(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want *bool
	}{
		{"0-1", "0-1", new(true)},
		{"0", "1", new(false)},
		{"", "", nil},
		{"0", "", nil},
	} {
		got := oneCore(c.a, c.b)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("oneCore(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// The widest possible figures fit into 100 columns.
func TestTable(t *testing.T) {
	wide := figures{Name: "System V queue", Median: 99999, P99: 999999,
		CPU: 99999, Switches: 9999, Calls: 999, Copies: 2}
	for _, b := range blocks(false) {
		wide.Throughput = append(wide.Throughput,
			throughput{Size: b.Size, Rate: 99999})
	}
	r := result{RoundTrips: 1, Blocks: blocks(false), Placements: []placement{{
		CPUs: [2]int{998, 999}, OneCore: new(true),
		Mechanisms: []figures{wide}}}}
	var text strings.Builder
	if err := r.print(&text); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"CPU 998", "threads of one core", "busy",
		"only one"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &text)
		}
	}
}

// The sum of what fill writes is sumOf, and a change of a word changes it.
func TestBlock(t *testing.T) {
	for _, b := range blocks(false) {
		block := make([]byte, b.Size)
		fill(block, 1<<63|42)
		if sum(block) != sumOf(1<<63|42, b.Size/8) {
			t.Errorf("%d bytes do not add up", b.Size)
		}
		block[b.Size-1] ^= 1
		if sum(block) == sumOf(1<<63|42, b.Size/8) {
			t.Errorf("%d bytes: a change of the last was not seen", b.Size)
		}
	}
}

func TestLayout(t *testing.T) {
	var s shared
	for what, c := range map[string]struct{ got, want uintptr }{
		"taken":           {unsafe.Offsetof(s.control[0].taken), 64},
		"the other's":     {unsafe.Sizeof(control{}), 128},
		"data":            {unsafe.Offsetof(s.data), 4096},
		"the other's one": {unsafe.Sizeof(s.data[0]), 8 << 20},
	} {
		if c.got != c.want {
			t.Errorf("%s is at %d, not at %d", what, c.got, c.want)
		}
	}
}
