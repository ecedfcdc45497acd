//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"testing"
)

// peers are the functions that the other process of a benchmark can run.
var peers = map[string]func(mem []byte) error{
	"count": func(mem []byte) error {
		s := view(mem)
		for {
			if err := s.increment(); err != nil {
				return err
			}
		}
	},
}

func (s *shared) increment() error {
	if err := s.mutex.lock(func() error { return nil }); err != nil {
		return err
	}
	s.counter++
	s.mutex.unlock()
	return nil
}

// Locking and unlocking a mutex that nobody else wants: two atomic
// operations, and no system call.
func BenchmarkMutex(b *testing.B) { benchmarkMutex(b, new(shared)) }

func BenchmarkMutexRobust(b *testing.B) {
	onOneThread(b)
	if err := registerRobust(); err != nil {
		b.Skip(err)
	}
	r := robust{new(mutex)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.lock(noWait); err != nil {
			b.Fatal(err)
		}
		r.unlock()
	}
}

// The same, while another process locks the mutex as often as it can.
func BenchmarkMutexContended(b *testing.B) {
	benchmarkPair(b, "count", func(b *testing.B, mem []byte) {
		benchmarkMutex(b, view(mem))
	})
}

func benchmarkMutex(b *testing.B, s *shared) {
	b.ReportAllocs()
	for b.Loop() {
		if err := s.increment(); err != nil {
			b.Fatal(err)
		}
	}
}
