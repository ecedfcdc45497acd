//go:build linux

package segment

import (
	"strings"
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var s Shared
	for field, at := range map[string][2]uintptr{
		"cnt":      {unsafe.Offsetof(s.Cnt), 0},
		"complete": {unsafe.Offsetof(s.Complete), 4},
		"buf":      {unsafe.Offsetof(s.Buf), 8},
		"the end":  {unsafe.Sizeof(s), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
}

func TestView(t *testing.T) {
	mem := make([]byte, Size)
	View(mem).Cnt.Store(0x01020304)
	View(mem).Buf[BlockSize] = 'x'
	if mem[0] != 4 || mem[3] != 1 || mem[Size-1] != 'x' {
		t.Errorf("% x … %c", mem[:4], mem[Size-1])
	}
	defer func() {
		if recover() == nil {
			t.Error("a view that is longer than the segment")
		}
	}()
	View(mem[:Size-1])
}

func TestBlock(t *testing.T) {
	s := new(Shared)
	if !s.Blank() {
		t.Error("new and not blank")
	}
	want := func(want string) {
		t.Helper()
		if got, err := s.Block(); got != want || err != nil {
			t.Errorf("block %q, %v, want %q", got, err, want)
		}
	}
	want("")
	s.Complete.Store(1)
	if n := s.Fill('A'); n != BlockSize || s.Complete.Load() != 0 {
		t.Errorf("filled %d bytes, complete %d", n, s.Complete.Load())
	}
	if s.Blank() {
		t.Error("filled and blank")
	}
	want(strings.Repeat("A", BlockSize))
	s.Buf[BlockSize-1] = 'B' // another block has come as far as that
	want("")
	s.Cnt.Store(BlockSize - 1)
	want(strings.Repeat("A", BlockSize-1))
	s.Cnt.Store(0)
	want("")
}

func TestLetters(t *testing.T) {
	got := string([]byte{Letter(0), Letter(25), Letter(26), Letter(27)})
	if got != "AZAB" {
		t.Errorf("letters %s", got)
	}
	for _, m := range []struct {
		last, now string
		want      int
	}{
		{"", "A", 0}, {"", "D", 3}, {"A", "B", 0},
		{"A", "D", 2}, {"Z", "A", 0}, {"Y", "B", 2},
	} {
		if got := Missed(m.last, m.now); got != m.want {
			t.Errorf("%q, %q: missed %d, want %d", m.last, m.now, got, m.want)
		}
	}
}

// Whatever lies in a segment, reading it gives a block, none, or an error.
func FuzzBlock(f *testing.F) {
	f.Add(int32(0), []byte{})
	f.Add(int32(-1), []byte("A"))
	f.Add(int32(BlockSize), []byte(strings.Repeat("Z", BlockSize)))
	f.Add(int32(BlockSize+1), []byte(strings.Repeat("Z", BlockSize+1)))
	f.Add(int32(-1<<31), []byte{0, 255})
	f.Fuzz(func(t *testing.T, cnt int32, buf []byte) {
		s := new(Shared)
		copy(s.Buf[:], buf)
		s.Cnt.Store(cnt)
		block, err := s.Block()
		switch {
		case err != nil:
			if block != "" || cnt >= 0 && cnt <= BlockSize {
				t.Errorf("cnt %d: %q, %v", cnt, block, err)
			}
		case block == "":
		case len(block) != int(cnt) || strings.Trim(block, block[:1]) != "":
			t.Errorf("cnt %d: %q", cnt, block)
		default:
			if n := Missed("A", block); n < 0 || n > 25 {
				t.Errorf("missed %d", n)
			}
		}
	})
}
