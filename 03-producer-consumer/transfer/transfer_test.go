//go:build linux

package transfer

import (
	"testing"
	"unsafe"
)

// The offsets are the contract with programs in other languages.
func TestLayout(t *testing.T) {
	var b Buffer
	for field, at := range map[string][2]uintptr{
		"cnt":     {unsafe.Offsetof(b.Cnt), 0},
		"buf":     {unsafe.Offsetof(b.Buf), 4},
		"the end": {unsafe.Sizeof(b), Size},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
	if Write != 0 || Read != 1 {
		t.Errorf("semaphores %d and %d", Write, Read)
	}
}
