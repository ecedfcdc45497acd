//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	size     = 4096 // bytes of the segment
	maxNodes = (size - headerSize) / nodeSize
	end      = -1 // in place of an offset: no node follows

	headerSize = int64(unsafe.Sizeof(header{}))
	nodeSize   = int64(unsafe.Sizeof(node{}))
)

// list is a segment of size bytes with a linked list in it: a header, then
// the nodes. The tutorial's C program uses the same bytes. An offset counts
// bytes from the start of the segment.
type list []byte

// header is at offset 0.
type header struct {
	count atomic.Int32 // offset 0: number of nodes
	first atomic.Int64 // offset 8: offset of the first node, or end
}

// node has 16 bytes. Its offset is in the field next of the node before it.
type node struct {
	next  atomic.Int64 // offset 0: offset of the next node, or end
	value atomic.Int32 // offset 8
}

func (l list) header() *header { return (*header)(unsafe.Pointer(&l[0])) }

// node turns an offset into a pointer. The pointer is valid only in this
// process.
func (l list) node(offset int64) *node {
	bytes := l[offset : offset+nodeSize] // panics if it is not all inside
	return (*node)(unsafe.Pointer(&bytes[0]))
}

// build makes a list of n nodes, one after the other: 10, 20, 30 and so on.
// Each link is origin plus the offset of a node. With origin 0 it is an offset.
// With the address of the segment it is a pointer, for -absolute. The first
// link is stored last: before that there is no list.
func (l list) build(n, origin int64) {
	link := func(i int64) int64 {
		if i == n {
			return end
		}
		return origin + headerSize + i*nodeSize
	}
	l.header().count.Store(int32(n))
	for i := range n {
		node := l.node(headerSize + i*nodeSize)
		node.value.Store(int32(i+1) * 10)
		node.next.Store(link(i + 1))
	}
	l.header().first.Store(link(0))
}

// walk returns the values of the list. It trusts nothing in the segment. It
// visits no more nodes than a segment can hold, and none outside the segment.
// It reads each field once. So it uses the value that it has checked, even if
// another process writes there meanwhile.
func (l list) walk() (values []int32, err error) {
	count := int64(l.header().count.Load())
	if count < 0 || count > maxNodes {
		return nil, fmt.Errorf("count is %d, not 0 to %d", count, maxNodes)
	}
	const last = size - nodeSize
	offset := l.header().first.Load()
	for i := range count {
		switch {
		case offset == end:
			return nil, fmt.Errorf("node %d: the list ends before it, at "+
				"offset %d, but count is %d", i+1, offset, count)
		case offset < headerSize || offset > last:
			return nil, fmt.Errorf("node %d: offset %d is not %d to %d",
				i+1, offset, headerSize, last)
		case offset%8 != 0:
			return nil, fmt.Errorf("node %d: offset %d is not a multiple of "+
				"8", i+1, offset)
		}
		node := l.node(offset)
		values = append(values, node.value.Load())
		offset = node.next.Load()
	}
	if offset != end {
		return nil, fmt.Errorf("node %d: the list goes on at offset %d, but "+
			"count is %d: too long, or a cycle", count+1, offset, count)
	}
	return values, nil
}
