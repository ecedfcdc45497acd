//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// work is what the two processes do together. Process 0 sends blocks of Size
// bytes, up to Count of them and for up to Limit. If Echo is set, process 1
// sends one block back for each. If not, it sends one at the end.
type work struct {
	Size, Count int
	Limit       time.Duration
	Echo        bool
}

// phase is the result of one work, in one process.
type phase struct {
	Blocks     int
	Took       time.Duration
	RoundTrips []time.Duration // sorted, if Echo
	usage
}

// begin does the part of process 0. It marks the last block as the last.
func (w work) begin(e endpoint) (p phase, err error) {
	start := time.Now()
	var over atomic.Bool
	defer time.AfterFunc(w.Limit, func() { over.Store(true) }).Stop()
	last := false
	for sentAt := time.Duration(0); !last; p.Blocks++ { // since start
		number := uint64(p.Blocks)
		last = p.Blocks == w.Count-1 || over.Load()
		if err := send(e, w.Size, number, last); err != nil {
			return p, err
		}
		if !w.Echo && !last {
			continue
		}
		if _, err := receive(e, smallest, number); err != nil {
			return p, err
		}
		if w.Echo {
			now := time.Since(start)
			p.RoundTrips = append(p.RoundTrips, now-sentAt)
			sentAt = now
		}
	}
	p.Took = time.Since(start)
	return p, nil
}

// answer does the part of process 1.
func (w work) answer(e endpoint) (p phase, err error) {
	for last := false; !last; p.Blocks++ {
		number := uint64(p.Blocks)
		last, err = receive(e, w.Size, number)
		if err == nil && (w.Echo || last) {
			err = send(e, smallest, number, last)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// send sends block number. The first word is twice the number, and 1 more in
// the last block.
func send(e endpoint, size int, number uint64, last bool) error {
	block, err := e.room(size)
	if err != nil {
		return err
	}
	first := number << 1
	if last {
		first |= 1
	}
	fill(block, first)
	return e.send(size)
}

// receive waits for block number, checks the sum of all its words, and releases
// it. It tells whether the block is the last.
func receive(e endpoint, size int, number uint64) (last bool, err error) {
	block, err := e.receive(size)
	if err != nil {
		return false, err
	}
	first := words(block)[0]
	if first>>1 != number || sum(block) != sumOf(first, len(block)/8) {
		return false, fmt.Errorf("block %d of %d bytes is not as it was sent",
			number, size)
	}
	return first&1 == 1, e.release()
}

// words returns the block as words. Every block is aligned.
func words(block []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&block[0])), len(block)/8)
}

// fill writes the words first, first+1 and so on.
func fill(block []byte, first uint64) {
	for i := range words(block) {
		words(block)[i] = first + uint64(i)
	}
}

func sum(block []byte) (total uint64) {
	for _, word := range words(block) {
		total += word
	}
	return total
}

// sumOf returns the sum of the n words that fill writes.
func sumOf(first uint64, n int) uint64 {
	return uint64(n)*first + uint64(n)*uint64(n-1)/2
}
