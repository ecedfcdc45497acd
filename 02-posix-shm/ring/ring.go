//go:build linux && (amd64 || arm64 || riscv64)

// Package ring is a ring buffer in shared memory for one producer and one
// consumer, without a lock. Each of the two writes one index and reads the
// other's. The indices are in different cache lines: in one line, every store
// of one process would take the line from the other.
//
// Beside each index is a flag, which says that the other process sleeps. The
// flag costs next to nothing while both processes are awake. The producer reads
// it after each store of its index, and finds both in one line. The consumer
// writes that flag only when it goes to sleep and when it wakes up. The other
// line is used the same way.
//
// The indices count on, and wrap only at 2³². Item k is in slot k % 1024. The
// ring is empty if the indices are equal, and full if they are 1024 apart.
package ring

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	Name  = "/optimized_buffer"
	Size  = 4224 // bytes of the object
	Slots = 1024 // items that it holds
	Batch = 128  // items that the two programs put, or take, together
)

// Shared is the layout of the object, Size bytes. The tutorial's C program has
// padding in place of the flags. So no wait relies on the flags alone.
type Shared struct {
	ProducerIndex atomic.Uint32 // offset 0: items put so far
	consumerWaits atomic.Uint32 // offset 4: 1 = wake it
	producerLocks atomic.Uint32 // offset 8: 1 = it has locked this line
	_             [52]byte
	ConsumerIndex atomic.Uint32 // offset 64: items taken so far
	producerWaits atomic.Uint32 // offset 68: 1 = wake it
	consumerLocks atomic.Uint32 // offset 72: 1 = it has locked this line
	_             [52]byte
	Buffer        [Slots]int32 // offset 128
}

// View lays Shared over a mapped object. It panics if mem is too short.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem)))
}

// A Producer puts items in. It is for one goroutine. Its counters:
//
//	 taken by the     published,     room         no room
//	 consumer         not taken      for more     from here
//	---------------|--------------|------------|-----------> item
//	         limit - 1024       next         limit
type Producer struct {
	ring  *Shared
	next  uint32 // the item to put next: what ProducerIndex says
	limit uint32 // the first item for which there is no room
	waiter

	// Start is when this producer first saw that an item was taken.
	Start time.Time
}

// NewProducer begins where the index stands. It knows of no room yet (limit is
// next), so the first Push looks at the consumer's index.
func NewProducer(ring *Shared, peer Checker) *Producer {
	next := ring.ProducerIndex.Load()
	return &Producer{ring: ring, next: next, limit: next,
		waiter: waiter{peer: peer, spins: maxSpins}}
}

// Push puts items in, as many at a time as there is room for, and waits for
// room if there is none. One atomic store publishes what has been put in. On
// x86 it takes as long as 20 plain stores. So it is faster to push many items
// at a time.
func (p *Producer) Push(ctx context.Context, items []int32) error {
	for len(items) > 0 {
		if p.next == p.limit {
			if err := p.waitForRoom(ctx); err != nil {
				return err
			}
		}
		slot := p.next % Slots
		n := copy(p.ring.Buffer[slot:min(slot+p.limit-p.next, Slots)], items)
		items = items[n:]
		p.next += uint32(n)
		p.ring.ProducerIndex.Store(p.next)
		wake(&p.ring.ProducerIndex, &p.ring.consumerWaits)
	}
	return nil
}

// Drain waits until the consumer has taken all items.
func (p *Producer) Drain(ctx context.Context) error {
	for p.limit-Slots != p.next {
		if err := p.waitForRoom(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *Producer) waitForRoom(ctx context.Context) error {
	taken, err := p.wait(ctx, &p.ring.ConsumerIndex, p.limit-Slots,
		&p.ring.producerWaits)
	if err == nil && p.next-taken > Slots {
		err = fmt.Errorf("consumer_index is %d, but only %d items were put",
			taken, p.next)
	}
	if err == nil {
		p.limit = taken + Slots
		if taken > 0 && p.Start.IsZero() {
			p.Start = time.Now()
		}
	}
	return err
}

// A Consumer takes items out. It is for one goroutine. Its counters:
//
//	 taken             there, to     not there
//	                   be taken      yet
//	---------------|-------------|------------> item
//	             next          limit
type Consumer struct {
	ring  *Shared
	next  uint32 // the item to take next: what ConsumerIndex will say
	limit uint32 // the first item that is not there yet
	waiter
}

// NewConsumer begins where the index stands. It knows of no items yet (limit is
// next), so the first Pop looks at the producer's index.
func NewConsumer(ring *Shared, peer Checker) *Consumer {
	next := ring.ConsumerIndex.Load()
	return &Consumer{ring, next, next, waiter{peer: peer, spins: maxSpins}}
}

// Pop copies items out of the ring, as many as are there and fit, and returns
// how many. If there is none, it waits for one. The producer gets the slots
// back only at the next Pop, or at Release. So a caller that answers each item
// can answer first: the store that gives the slot back takes time.
func (c *Consumer) Pop(ctx context.Context, items []int32) (int, error) {
	c.Release()
	if c.next == c.limit {
		if err := c.waitForItems(ctx); err != nil {
			return 0, err
		}
	}
	slot := c.next % Slots
	n := copy(items, c.ring.Buffer[slot:min(slot+c.limit-c.next, Slots)])
	c.next += uint32(n)
	return n, nil
}

// Release gives the slots of all items that were taken back to the producer.
func (c *Consumer) Release() {
	c.ring.ConsumerIndex.Store(c.next)
	wake(&c.ring.ConsumerIndex, &c.ring.producerWaits)
}

func (c *Consumer) waitForItems(ctx context.Context) error {
	put, err := c.wait(ctx, &c.ring.ProducerIndex, c.next,
		&c.ring.consumerWaits)
	if err == nil && put-c.next > Slots {
		err = fmt.Errorf("producer_index is %d, but the ring holds %d items "+
			"from %d on", put, Slots, c.next)
	}
	if err == nil {
		c.limit = put
	}
	return err
}
