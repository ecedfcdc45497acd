//go:build linux && (amd64 || arm64 || riscv64)

package message

import (
	"strings"
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var s Shared
	for field, at := range map[string][2]uintptr{
		"counter": {unsafe.Offsetof(s.Counter), 0},
		"message": {unsafe.Offsetof(s.Message), 4},
		"ready":   {unsafe.Offsetof(s.Ready), 260},
		"the end": {unsafe.Sizeof(s), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

func TestMessage(t *testing.T) {
	mem := make([]byte, Size)
	s := View(mem)
	s.Put(7, "seven")
	if _, _, ok := s.Get(); ok {
		t.Error("read before it was ready")
	}
	s.Ready.Store(1)
	if n, text, ok := s.Get(); n != 7 || text != "seven" || !ok {
		t.Errorf("got %d %q %v", n, text, ok)
	}
	if string(mem[4:10]) != "seven\x00" {
		t.Errorf("in memory: %q", mem[4:10])
	}
	s.Put(8, strings.Repeat("x", 1000))
	s.Ready.Store(1)
	if n, text, _ := s.Get(); n != 8 || text != strings.Repeat("x", 255) {
		t.Errorf("got %d %q", n, text)
	}
}

// Whatever a segment contains, Get returns a message or none.
func FuzzGet(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(strings.Repeat("\x01", Size)))
	f.Add([]byte(strings.Repeat("x", 260) + "\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		mem := make([]byte, Size)
		copy(mem, content)
		s := View(mem)
		n, text, ok := s.Get()
		if ok != (s.Ready.Load() == 1) || len(text) > 256 ||
			strings.Contains(text, "\x00") || ok && n != s.Counter.Load() {
			t.Errorf("%d %q %v", n, text, ok)
		}
	})
}
