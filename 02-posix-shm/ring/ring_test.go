//go:build linux

package ring

import (
	"context"
	"errors"
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var s Shared
	for field, at := range map[string][2]uintptr{
		"producer_index": {unsafe.Offsetof(s.ProducerIndex), 0},
		"consumer_index": {unsafe.Offsetof(s.ConsumerIndex), 64},
		"producerLocks": {unsafe.Offsetof(s.producerLocks),
			uintptr(ProducerLine) + 8},
		"consumerLocks": {unsafe.Offsetof(s.consumerLocks),
			uintptr(ConsumerLine) + 8},
		"buffer":  {unsafe.Offsetof(s.Buffer), 128},
		"the end": {unsafe.Sizeof(s), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

type there struct{}

func (there) Check() error { return nil }

var errGone = errors.New("gone")

type gone struct{}

func (gone) Check() error { return errGone }

// start returns an empty ring with both indices at index.
func start(index uint32) *Shared {
	s := new(Shared)
	s.ProducerIndex.Store(index)
	s.ConsumerIndex.Store(index)
	return s
}

// Items go through one by one, also where the indices wrap.
func TestPushPop(t *testing.T) {
	const n = 100_000
	ctx := context.Background()
	for _, first := range []uint32{0, 1<<32 - 5000, 1<<31 - 5000} {
		s := start(first)
		producer := NewProducer(s, there{})
		done := make(chan error)
		go func() {
			for k := range uint32(n) {
				item := []int32{int32(first + k)}
				if err := producer.Push(ctx, item); err != nil {
					done <- err
					return
				}
			}
			done <- producer.Drain(ctx)
		}()
		consumer := NewConsumer(s, there{})
		item := make([]int32, 1)
		for k := range uint32(n) {
			_, err := consumer.Pop(ctx, item)
			if err != nil || item[0] != int32(first+k) {
				t.Fatalf("item %d is %d, %v", first+k, item[0], err)
			}
		}
		consumer.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if at := s.ProducerIndex.Load(); at != first+n {
			t.Errorf("producer_index is %d, want %d", at, first+n)
		}
	}
}

// Items go through in slices of all lengths, also where the indices wrap.
func TestSlices(t *testing.T) {
	const n = 100_000
	ctx := context.Background()
	first := uint32(1<<32 - 3333)
	s := start(first)
	done := make(chan error)
	go func() {
		producer := NewProducer(s, there{})
		for k, size := uint32(0), uint32(1); k < n; size = size*3%4099 + 1 {
			items := make([]int32, min(size, n-k))
			for i := range items {
				items[i] = int32(first + k)
				k++
			}
			if err := producer.Push(ctx, items); err != nil {
				done <- err
				return
			}
		}
		done <- producer.Drain(ctx)
	}()
	consumer := NewConsumer(s, there{})
	for k, size := uint32(0), 1; k < n; size = size*5%3001 + 1 {
		items := make([]int32, size)
		got, err := consumer.Pop(ctx, items)
		if err != nil || got < 1 {
			t.Fatalf("got %d items, %v", got, err)
		}
		for _, item := range items[:got] {
			if item != int32(first+k) {
				t.Fatalf("item %d is %d", first+k, item)
			}
			k++
		}
	}
	consumer.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// No call waits for ever if the peer is dead, or after ctx has ended.
func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := start(7)
	item := make([]int32, 1)
	if _, err := NewConsumer(s, gone{}).Pop(ctx, item); err != errGone {
		t.Errorf("Pop: %v", err)
	}
	producer := NewProducer(s, gone{})
	if err := producer.Push(ctx, make([]int32, Slots)); err != nil {
		t.Fatal(err)
	}
	if err := producer.Push(ctx, item); err != errGone {
		t.Errorf("Push: %v", err)
	}
	if err := producer.Drain(ctx); err != errGone {
		t.Errorf("Drain: %v", err)
	}
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := NewConsumer(start(7), there{}).Pop(ctx,
		item); err != stopped {
		t.Errorf("Pop: %v", err)
	}
}

// Whatever the indices in the object are, Push and Pop return an error, or use
// only slots of the buffer. Nothing panics.
func FuzzIndices(f *testing.F) {
	f.Add(uint32(0), uint32(0))
	f.Add(uint32(1024), uint32(0))
	f.Add(uint32(1025), uint32(0))
	f.Add(uint32(0), uint32(1<<32-1))
	f.Fuzz(func(t *testing.T, put, taken uint32) {
		s := new(Shared)
		s.ProducerIndex.Store(put)
		s.ConsumerIndex.Store(taken)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c := NewConsumer(s, gone{})
		n, err := c.Pop(ctx, make([]int32, 2*Slots))
		if ok := put-taken <= Slots && put != taken; ok != (err == nil) ||
			n < 0 || n > Slots {
			t.Errorf("%d of %d to %d: %v", n, taken, put, err)
		}
		p := NewProducer(s, gone{})
		err = p.Push(ctx, make([]int32, 3*Slots))
		if err == nil {
			t.Error("three times what fits went in")
		}
	})
}
