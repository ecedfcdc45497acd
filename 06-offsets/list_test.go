//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var h header
	var n node
	for field, at := range map[string][2]uintptr{
		"count":             {unsafe.Offsetof(h.count), 0},
		"first_offset":      {unsafe.Offsetof(h.first), 8},
		"the first node":    {unsafe.Sizeof(h), 16},
		"next_offset":       {unsafe.Offsetof(n.next), 0},
		"value":             {unsafe.Offsetof(n.value), 8},
		"the end of a node": {unsafe.Sizeof(n), 16},
		"the end of them":   {uintptr(headerSize + maxNodes*nodeSize), size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is %d, not %d", field, at[0], at[1])
		}
	}
}

// The bytes of the tutorial's list.
func TestBytes(t *testing.T) {
	l := make(list, size)
	l.build(3, 0)
	for at, want := range map[int]int64{
		0: 3, 8: 16, 16: 32, 24: 10, 32: 48, 40: 20, 48: -1, 56: 30, 64: 0,
	} {
		if got := int64(binary.NativeEndian.Uint64(l[at:])); got != want {
			t.Errorf("offset %d: %d, want %d", at, got, want)
		}
	}
}

func TestWalk(t *testing.T) {
	for n := range maxNodes + 1 {
		l := make(list, size)
		l.build(n, 0)
		want := make([]int32, 0, n)
		for i := range n {
			want = append(want, int32(i+1)*10)
		}
		if got, err := l.walk(); !slices.Equal(got, want) || err != nil {
			t.Errorf("%d nodes: %d, %v", n, got, err)
		}
	}
}

// Each of these would lead a walker that checks nothing out of the segment,
// into an endless loop, or to bytes that are no node.
func TestWalkErrors(t *testing.T) {
	const count, first, next1, next2, next3 = 0, 8, 16, 32, 48
	for name, c := range map[string]struct {
		offset int
		value  int64
		want   string
	}{
		"count-negative": {count, -1, "count is -1, not 0 to 255"},
		"count-large":    {count, 256, "count is 256, not 0 to 255"},
		"count-huge":     {count, 1<<31 - 1, "count is 2147483647, not 0"},
		"count-short":    {count, 4, "node 4: the list ends before it"},
		"count-long":     {count, 2, "node 3: the list goes on at offset 48"},
		"empty":          {count, 0, "node 1: the list goes on at offset 16"},
		"first-end":      {first, -1, "node 1: the list ends before it"},
		"first-header":   {first, 8, "node 1: offset 8 is not 16 to 4080"},
		"first-pointer":  {first, 0x7f31_0000_0010, "node 1: offset 139848430"},
		"negative":       {next1, -16, "node 2: offset -16 is not 16 to 4080"},
		"most-negative":  {next1, -1 << 63, "node 2: offset -9223372036854775"},
		"zero":           {next1, 0, "node 2: offset 0 is not 16 to 4080"},
		"outside":        {next2, 4096, "node 3: offset 4096 is not 16"},
		"half-outside":   {next2, 4088, "node 3: offset 4088 is not 16"},
		"wraps":          {next2, 1<<63 - 1, "node 3: offset 922337203685477"},
		"misaligned":     {next2, 52, "node 3: offset 52 is not a multiple"},
		"cycle-of-one":   {next1, 16, "node 4: the list goes on at offset 16"},
		"cycle-of-three": {next3, 16, "node 4: the list goes on at offset 16"},
	} {
		l := make(list, size)
		l.build(3, 0)
		binary.NativeEndian.PutUint64(l[c.offset:], uint64(c.value))
		values, err := l.walk()
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %d, %v; want %s", name, values, err, c.want)
		}
	}
}

// A walker comes to an end, and stays inside the segment, while another process
// changes the list.
func TestWalkChanging(t *testing.T) {
	l := make(list, size)
	l.build(maxNodes, 0)
	stop := make(chan bool)
	go func() {
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				l.node(headerSize).next.Store(i * 1024)
				l.header().count.Store(int32(i))
			}
		}
	}()
	for range 10000 {
		if values, err := l.walk(); err == nil && len(values) > int(maxNodes) {
			t.Fatalf("%d values", len(values))
		}
	}
	close(stop)
}

// Whatever a segment contains, walk returns as many values as count says, or
// an error.
func FuzzWalk(f *testing.F) {
	l := make(list, size)
	f.Add([]byte{})
	for _, n := range []int64{1, 3, maxNodes} {
		l.build(n, 0)
		f.Add(slices.Clone([]byte(l[:headerSize+n*nodeSize])))
		l.build(n, 1<<40)
		f.Add(slices.Clone([]byte(l[:headerSize+n*nodeSize])))
	}
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 16})
	f.Fuzz(func(t *testing.T, content []byte) {
		l := make(list, size)
		copy(l, content)
		values, err := l.walk()
		count := int(l.header().count.Load())
		if err == nil && len(values) != count || err != nil && values != nil {
			t.Errorf("count %d: %d values, %v", count, len(values), err)
		}
	})
}
