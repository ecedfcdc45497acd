//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"io"
	"strings"
)

const barWidth = 12

// print prints a table for each placement.
func (r result) print(stdout io.Writer) error {
	for _, p := range r.Placements {
		if err := p.print(stdout); err != nil {
			return err
		}
	}
	if len(r.Placements) == 1 {
		fmt.Fprint(stdout, "Two CPUs: not measured, this process may use "+
			"only one.\n\n")
	}
	if r.cut() {
		fmt.Fprint(stdout, "The machine was busy: not all that was to be "+
			"measured could be. Do not believe\nthis table. -json has the "+
			"counts.\n\n")
	}
	_, err := fmt.Fprint(stdout, notes)
	return err
}

const notes = `Round trip: 64 bytes there and back, the median; short is good.
For each message of a round trip, of both processes together: CPU time,
context switches, system calls, copies by the kernel. Queues get blocks in
pieces of 8 KiB, the most that a message may be. -json says more.
`

// cut tells whether a time limit has cut a measurement short.
func (r result) cut() bool {
	for _, p := range r.Placements {
		for _, m := range p.Mechanisms {
			if m.RoundTrips < r.RoundTrips {
				return true
			}
			for i, t := range m.Throughput {
				if t.Count < r.Blocks[i].Count*r.Blocks[i].Times {
					return true
				}
			}
		}
	}
	return false
}

func (p placement) print(stdout io.Writer) error {
	where := fmt.Sprintf("Both processes on CPU %d", p.CPUs[0])
	if p.CPUs[0] != p.CPUs[1] {
		where = fmt.Sprintf("One process on CPU %d, the other on CPU %d",
			p.CPUs[0], p.CPUs[1])
	}
	if p.OneCore != nil && *p.OneCore {
		where += ", which are threads of one core"
	}
	longest := 0.0
	for _, m := range p.Mechanisms {
		longest = max(longest, m.Median)
	}
	fmt.Fprintf(stdout, "%s\n\n"+
		"                 round trip, µs       "+
		"throughput, MB/s          for each message\n"+
		"                 median                "+
		"64 B  4 KiB 64 KiB  1 MiB  CPU µs switch calls copies\n", where)
	for _, m := range p.Mechanisms {
		fmt.Fprintf(stdout, "%-14s %8s %-*s", m.Name, digits(m.Median),
			barWidth, bar(m.Median/longest))
		for _, t := range m.Throughput {
			fmt.Fprintf(stdout, " %6s", digits(t.Rate))
		}
		fmt.Fprintf(stdout, " %7s %6.1f %5.1f %6d\n", digits(m.CPU), m.Switches,
			m.Calls, m.Copies)
	}
	_, err := fmt.Fprintln(stdout)
	return err
}

// digits writes a number with two decimals, or fewer if it is large.
func digits(f float64) string {
	switch {
	case f < 9.995:
		return fmt.Sprintf("%.2f", f)
	case f < 99.95:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// bar draws a part of barWidth, in steps of an eighth of a column. It is never
// empty.
func bar(part float64) string {
	eighths := max(1, int(part*barWidth*8+0.5))
	b := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return b
}
