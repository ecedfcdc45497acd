//go:build linux && (amd64 || arm64 || riscv64)

// Package ring is a ring buffer in shared memory for one producer and one
// consumer, without a lock. Each of the two writes one index and reads the
// other's; the indices are in cache lines of their own, so that the two do
// not fight for one.
//
// The indices run on and wrap at 2³²; item k is in slot k & 1023. The ring is
// empty when they are equal, full when they are 1024 apart.
package ring

import (
	"context"
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	Name  = "/optimized_buffer"
	Size  = 4224 // bytes of the object
	Slots = 1024 // items that it holds
	Batch = 128  // items that are published, or given back, together
)

// Shared is the layout of the object, Size bytes. A C program may know
// nothing of the flags in the padding: no wait relies on them alone.
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

// View lays Shared over a mapped object of Size bytes.
func View(mem []byte) *Shared {
	return (*Shared)(unsafe.Pointer((*[Size]byte)(mem))) // panics if shorter
}

// A Producer puts items in. It is for one goroutine. Its four counters:
//
//	 taken by the    published,     put, not yet    room for     no room
//	 consumer        not taken      published       the rest     from here
//	--------------|--------------|---------------|-----|------|---------> item
//	        limit - 1024       sent            next  stop   limit
//
// Push checks nothing before stop: the end of the batch, at most limit.
type Producer struct {
	ring  *Shared
	next  uint32 // the item to put next
	stop  uint32 // the first that Push cannot simply put
	sent  uint32 // what ProducerIndex says
	limit uint32 // the first item for which there is no room
	waiter
}

// NewProducer begins where the index stands, and looks for room first.
func NewProducer(ring *Shared, peer checker) *Producer {
	next := ring.ProducerIndex.Load()
	return &Producer{ring, next, next, next, next,
		waiter{peer: peer, spins: maxSpins}}
}

// Push puts an item in, and waits for room if there is none. The consumer
// sees it when Batch more have been put, or after Flush.
func (p *Producer) Push(ctx context.Context, item int32) error {
	if p.next == p.stop {
		return p.pushNext(ctx, item)
	}
	p.ring.Buffer[p.next%Slots] = item
	p.next++
	return nil
}

// pushNext is Push between two batches.
func (p *Producer) pushNext(ctx context.Context, item int32) error {
	p.Flush()
	if p.next == p.limit {
		if err := p.waitForRoom(ctx); err != nil {
			return err
		}
	}
	p.stop = p.next + min(Batch, p.limit-p.next)
	return p.Push(ctx, item)
}

// PushAll puts many in, as many at a time as there is room for.
func (p *Producer) PushAll(ctx context.Context, items []int32) error {
	for len(items) > 0 {
		if p.next == p.limit {
			if err := p.waitForRoom(ctx); err != nil {
				p.stop = p.next
				return err
			}
		}
		slot := p.next % Slots
		n := copy(p.ring.Buffer[slot:min(slot+p.limit-p.next, Slots)], items)
		p.next += uint32(n)
		items = items[n:]
		p.Flush()
	}
	p.stop = p.next // the next batch of Push begins here
	return nil
}

// Flush publishes what has been put in. One atomic store does it, which is
// why it pays to do it for many: on x86 it takes as long as 20 plain ones.
func (p *Producer) Flush() {
	if p.sent != p.next {
		p.sent = p.next
		p.ring.ProducerIndex.Store(p.sent)
		wake(&p.ring.ProducerIndex, &p.ring.consumerWaits)
	}
}

// Drain flushes, and waits until the consumer has taken everything.
func (p *Producer) Drain(ctx context.Context) error {
	p.Flush()
	for p.limit-Slots != p.next {
		if err := p.waitForRoom(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *Producer) waitForRoom(ctx context.Context) error {
	p.Flush()
	r := p.ring
	taken, err := p.wait(ctx, &r.ConsumerIndex, p.limit-Slots,
		&r.producerWaits)
	if err == nil && p.next-taken > Slots {
		err = fmt.Errorf("consumer_index is %d, but only %d items were put",
			taken, p.next)
	}
	p.limit = taken + Slots
	return err
}

// A Consumer takes items out. It is for one goroutine. Its four counters:
//
//	 given back to    taken, not      there, to     not there
//	 the producer     given back      be taken      yet
//	---------------|---------------|-----|-------|------------> item
//	             given           next  stop    limit
//
// Pop checks nothing before stop: the end of the batch, at most limit.
type Consumer struct {
	ring  *Shared
	next  uint32 // the item to take next
	stop  uint32 // the first that Pop cannot simply take
	given uint32 // what ConsumerIndex says
	limit uint32 // the first item that is not there yet
	waiter
}

// NewConsumer begins where the index stands.
func NewConsumer(ring *Shared, peer checker) *Consumer {
	next := ring.ConsumerIndex.Load()
	return &Consumer{ring, next, next, next, next,
		waiter{peer: peer, spins: maxSpins}}
}

// Pop takes an item out, and waits for one if there is none. The producer
// has room for another when Batch more have been taken, or after Release, or
// when Pop finds the ring empty.
func (c *Consumer) Pop(ctx context.Context) (int32, error) {
	if c.next == c.stop {
		return c.popNext(ctx)
	}
	item := c.ring.Buffer[c.next%Slots]
	c.next++
	return item, nil
}

// popNext is Pop between two batches.
func (c *Consumer) popNext(ctx context.Context) (int32, error) {
	c.Release()
	if c.next == c.limit {
		if err := c.waitForItems(ctx); err != nil {
			return 0, err
		}
	}
	c.stop = c.next + min(Batch, c.limit-c.next)
	return c.Pop(ctx)
}

// PopSome takes out as many as there are and fit into items, at least one.
func (c *Consumer) PopSome(ctx context.Context, items []int32) (int, error) {
	if c.next == c.limit {
		if err := c.waitForItems(ctx); err != nil {
			return 0, err
		}
	}
	slot := c.next % Slots
	n := copy(items, c.ring.Buffer[slot:min(slot+c.limit-c.next, Slots)])
	c.next += uint32(n)
	c.stop = c.next // the next batch of Pop begins here
	c.Release()
	return n, nil
}

// Release gives the slots of the items that were taken back to the producer.
func (c *Consumer) Release() {
	if c.given != c.next {
		c.given = c.next
		c.ring.ConsumerIndex.Store(c.given)
		wake(&c.ring.ConsumerIndex, &c.ring.producerWaits)
	}
}

func (c *Consumer) waitForItems(ctx context.Context) error {
	c.Release()
	r := c.ring
	put, err := c.wait(ctx, &r.ProducerIndex, c.next, &r.consumerWaits)
	if err == nil && put-c.next > Slots {
		err = fmt.Errorf("producer_index is %d, but the ring holds %d items "+
			"from %d on", put, Slots, c.next)
	}
	if err == nil {
		c.limit = put
	}
	return err
}
