//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"math"
	"slices"
	"time"
)

// result is what -json prints.
type result struct {
	RoundTrips int         `json:"round_trips"` // how many should be measured
	Blocks     []block     `json:"blocks"`
	Placements []placement `json:"placements"`
}

// block says how often a block of one size should be sent. On a busy machine
// the time may suffice for fewer: figures has the real counts.
type block struct {
	Size  int           `json:"size"`  // bytes
	Count int           `json:"count"` // each time
	Times int           `json:"times"` // of which the median is shown
	Limit time.Duration `json:"limit"` // each time; nanoseconds
}

// placement is where the two processes ran.
type placement struct {
	Name       string    `json:"name"`
	CPUs       [2]int    `json:"cpus"`     // of each process
	OneCore    *bool     `json:"one_core"` // the CPUs share it; nil: not known
	Mechanisms []figures `json:"mechanisms"`
}

// figures are the results of one mechanism. A message is a block of a round
// trip, there or back. Its cost is the sum of both processes.
type figures struct {
	Name       string       `json:"name"`
	RoundTrips int          `json:"round_trips"`
	Median     float64      `json:"median_us"`            // of round trips
	P99        float64      `json:"p99_us"`               // 99 % take no longer
	CPU        float64      `json:"cpu_us_per_message"`   // user and system
	Switches   float64      `json:"switches_per_message"` // context switches
	Calls      float64      `json:"calls_per_message"`    // system calls
	Copies     int          `json:"copies"`               // by the kernel
	Throughput []throughput `json:"throughput"`
}

// throughput is the result for blocks of one size.
type throughput struct {
	Size  int     `json:"size"`     // bytes
	Count int     `json:"count"`    // all times together
	Rate  float64 `json:"mb_per_s"` // millions of bytes a second, the median
}

const smallest = 64 // bytes of the block of a round trip

// blocks are the same for all mechanisms, in both placements.
func blocks(quick bool) []block {
	const limit = 30 * time.Millisecond
	all := []block{{smallest, 3000, 5, limit}, {4 << 10, 1500, 5, limit},
		{64 << 10, 200, 5, limit}, {most, 15, 5, limit}}
	for i := range all {
		if quick {
			all[i].Count /= 3
			all[i].Times = 3
			all[i].Limit /= 3
		}
	}
	return all
}

func roundTrips(quick bool) work {
	if quick {
		return work{smallest, 1000, 75 * time.Millisecond, true}
	}
	return work{smallest, 4000, 300 * time.Millisecond, true}
}

// works returns what a pair of processes does: round trips to warm up, the
// round trips that are measured, and then blocks of each size.
func works(quick bool) []work {
	trips := roundTrips(quick)
	all := []work{{smallest, 100, trips.Limit / 10, true}, trips}
	for _, b := range blocks(quick) {
		for range b.Times {
			all = append(all, work{b.Size, b.Count, b.Limit, false})
		}
	}
	return all
}

// summarize computes the figures from what the two processes have measured.
func (m mechanism) summarize(works []work, phases [2][]phase) figures {
	trips := phases[0][1]
	messages := float64(2 * trips.Blocks)
	f := figures{
		Name:       m.name,
		RoundTrips: trips.Blocks,
		Median:     microseconds(quantile(trips.RoundTrips, 0.5)),
		P99:        microseconds(quantile(trips.RoundTrips, 0.99)),
		CPU:        microseconds(trips.CPU+phases[1][1].CPU) / messages,
		Switches:   float64(trips.Switches+phases[1][1].Switches) / messages,
		Calls:      float64(trips.Calls+phases[1][1].Calls) / messages,
		Copies:     m.copies,
	}
	var rates []float64
	count := 0
	for i := 2; i < len(works); i++ {
		p := phases[0][i]
		count += p.Blocks
		rates = append(rates, float64(p.Blocks*works[i].Size)/
			microseconds(p.Took))
		if i == len(works)-1 || works[i+1].Size != works[i].Size {
			f.Throughput = append(f.Throughput, throughput{works[i].Size,
				count, quantile(rates, 0.5)})
			rates, count = nil, 0
		}
	}
	return f
}

func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }

// quantile returns the smallest value that the part q of all values does not
// exceed. With q = 0.5 it is the median. It sorts the values.
func quantile[T time.Duration | float64](values []T, q float64) T {
	slices.Sort(values)
	return values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
}
