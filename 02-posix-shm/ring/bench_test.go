//go:build linux

package ring

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"
)

// peers are the functions that the other process of a benchmark can run.
var peers = map[string]func(mem []byte) error{
	"pop":   popAll,
	"push":  pushAll,
	"echo":  echoItems,
	"line":  echoLine,
	"futex": echoFutex,
}

// One item after the other: one atomic store for each.
func BenchmarkPushEach(b *testing.B) {
	benchmarkPair(b, "pop", func(b *testing.B, mem []byte) {
		p := NewProducer(View(mem), there{})
		items := make([]int32, 1)
		measure(b, func(ctx context.Context) error {
			return p.Push(ctx, items)
		})
	})
}

// Batch items at a time, as the two programs do it.
func BenchmarkPush(b *testing.B) { benchmarkPush(b, Batch*4) }

func BenchmarkPop(b *testing.B) {
	benchmarkPair(b, "push", func(b *testing.B, mem []byte) {
		c := NewConsumer(View(mem), there{})
		items := make([]int32, Batch)
		b.SetBytes(Batch * 4)
		measure(b, func(ctx context.Context) error {
			for n := 0; n < Batch; {
				got, err := c.Pop(ctx, items[n:])
				if err != nil {
					return err
				}
				n += got
			}
			return nil
		})
	})
}

// Slices, in bytes a second; BenchmarkCopy copies the same within a process.
func BenchmarkPush4KiB(b *testing.B) { benchmarkPush(b, 4<<10) }
func BenchmarkPush1MiB(b *testing.B) { benchmarkPush(b, 1<<20) }
func BenchmarkCopy4KiB(b *testing.B) { benchmarkCopy(b, 4<<10) }
func BenchmarkCopy1MiB(b *testing.B) { benchmarkCopy(b, 1<<20) }

func benchmarkPush(b *testing.B, bytes int) {
	benchmarkPair(b, "pop", func(b *testing.B, mem []byte) {
		p := NewProducer(View(mem), there{})
		items := make([]int32, bytes/4)
		b.SetBytes(int64(bytes))
		measure(b, func(ctx context.Context) error {
			return p.Push(ctx, items)
		})
	})
}

func benchmarkCopy(b *testing.B, bytes int) {
	from, to := make([]int32, bytes/4), make([]int32, bytes/4)
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		copy(to, from)
	}
}

// In and out again in one process: two copies, and no other CPU.
func BenchmarkInAndOut4KiB(b *testing.B) { benchmarkInAndOut(b, 4<<10) }
func BenchmarkInAndOut1MiB(b *testing.B) { benchmarkInAndOut(b, 1<<20) }

func benchmarkInAndOut(b *testing.B, bytes int) {
	p := NewProducer(new(Shared), there{})
	c := NewConsumer(p.ring, there{})
	from, to := make([]int32, bytes/4), make([]int32, bytes/4)
	b.SetBytes(int64(bytes))
	measure(b, func(ctx context.Context) error {
		for at := 0; at < len(from); at += Slots {
			if err := p.Push(ctx, from[at:][:Slots]); err != nil {
				return err
			}
			// Whatever is there fits, in two parts if it wraps.
			for end := at + Slots; at < end; {
				n, err := c.Pop(ctx, to[at:end])
				if err != nil {
					return err
				}
				at += n
			}
			c.Release()
			at -= Slots
		}
		return nil
	})
}

// One item there and one back, through two rings.
func BenchmarkThereAndBack(b *testing.B) {
	benchmarkPair(b, "echo", func(b *testing.B, mem []byte) {
		p := NewProducer(View(mem[:Size]), there{})
		c := NewConsumer(View(mem[sharedBytes/2:][:Size]), there{})
		items := make([]int32, 1)
		measure(b, func(ctx context.Context) error {
			if err := p.Push(ctx, items); err != nil {
				return err
			}
			_, err := c.Pop(ctx, items)
			return err
		})
	})
}

// The least that two CPUs need to answer each other: two cache lines change
// hands. On one CPU nobody can answer while the other one looks.
func BenchmarkCacheLine(b *testing.B) {
	benchmarkPair(b, "line", func(b *testing.B, mem []byte) {
		if b.Name() == "BenchmarkCacheLine/one-cpu" {
			b.Skip("needs two CPUs")
		}
		there, back := lines(mem)
		var n uint32
		measure(b, func(context.Context) error {
			n++
			there.Store(n)
			return spinUntil(back, n)
		})
	})
}

// Two processes that sleep in futex(2) in turn.
func BenchmarkFutex(b *testing.B) {
	benchmarkPair(b, "futex", func(b *testing.B, mem []byte) {
		there, back := lines(mem)
		var n uint32
		measure(b, func(context.Context) error {
			n++
			there.Store(n)
			wakeOne(there)
			sleepUntil(back, n)
			return nil
		})
	})
}

// measure measures one step, which must not allocate.
func measure(b *testing.B, step func(context.Context) error) {
	b.Helper()
	ctx := b.Context()
	for range 100 { // the other process has to start
		if err := step(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := step(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func popAll(mem []byte) error {
	c := NewConsumer(View(mem), there{})
	items := make([]int32, Slots)
	for {
		if _, err := c.Pop(context.Background(), items); err != nil {
			return err
		}
	}
}

func pushAll(mem []byte) error {
	p := NewProducer(View(mem), there{})
	items := make([]int32, Batch)
	for {
		if err := p.Push(context.Background(), items); err != nil {
			return err
		}
	}
}

func echoItems(mem []byte) error {
	c := NewConsumer(View(mem[:Size]), there{})
	p := NewProducer(View(mem[sharedBytes/2:][:Size]), there{})
	items := make([]int32, 1)
	for {
		_, err := c.Pop(context.Background(), items)
		if err == nil {
			err = p.Push(context.Background(), items)
		}
		if err != nil {
			return err
		}
	}
}

// lines are two words in cache lines of their own.
func lines(mem []byte) (there, back *atomic.Uint32) {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[0])),
		(*atomic.Uint32)(unsafe.Pointer(&mem[128]))
}

func spinUntil(word *atomic.Uint32, value uint32) error {
	for range 10_000_000_000 {
		if word.Load() == value {
			return nil
		}
	}
	return errors.New("no answer")
}

func sleepUntil(word *atomic.Uint32, value uint32) {
	if value%512 == 0 {
		// If a goroutine does not call the scheduler for 10 ms, the Go runtime
		// looks at it every 20 µs. On one CPU that is expensive.
		runtime.Gosched()
	}
	for word.Load() != value {
		sleepOn(word, value-1, maxSleep)
	}
}

func echoLine(mem []byte) error {
	there, back := lines(mem)
	for n := uint32(1); ; n++ {
		if err := spinUntil(there, n); err != nil {
			return err
		}
		back.Store(n)
	}
}

func echoFutex(mem []byte) error {
	there, back := lines(mem)
	for n := uint32(1); ; n++ {
		sleepUntil(there, n)
		back.Store(n)
		wakeOne(back)
	}
}
