//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"testing"
	"unsafe"
)

// The offsets are the contract with the C library and with other programs.
func TestLayout(t *testing.T) {
	var s shared
	var m mutex
	for field, at := range map[string][2]uintptr{
		"lock":    {unsafe.Offsetof(m.word), 0},
		"count":   {unsafe.Offsetof(m.count), 4},
		"owner":   {unsafe.Offsetof(m.owner), 8},
		"nusers":  {unsafe.Offsetof(m.nusers), 12},
		"kind":    {unsafe.Offsetof(m.kind), 16},
		"prev":    {unsafe.Offsetof(m.prev), 24},
		"next":    {unsafe.Offsetof(m.next), 32},
		"mutex":   {unsafe.Offsetof(s.mutex), 0},
		"counter": {unsafe.Offsetof(s.counter), 40 + padding},
		"message": {unsafe.Offsetof(s.message), 44 + padding},
		"the end": {uintptr(size), 304 + padding},
	} {
		if at[0] != at[1] {
			t.Errorf("%s is at %d, not %d", field, at[0], at[1])
		}
	}
	first := uintptr(unsafe.Pointer(s.note(0))) - uintptr(unsafe.Pointer(&s))
	if first != 48+padding || first%8 != 0 {
		t.Errorf("the notes begin at %d", first)
	}
	s.note(maxNotes - 1).begin(-1)
	if s.message[243] != 0 || s.message[244] != 0xff || maxNotes > 252/8 {
		t.Errorf("the last note is not in message[244:252]: %x", s.message)
	}
}

// A process that dies leaves the counter as it was, or one higher. Its round
// may still be begun in the note.
func TestRepair(t *testing.T) {
	const me, value, rounds = 3, 41, 7
	for _, c := range []struct {
		died                 string
		counter, begun, want int32
		completed            bool
		wantRounds           int
	}{
		{"before its note", value, 0, value, false, rounds},
		{"after its note", value, value + 1, value + 1, true, rounds + 1},
		{"after the counter", value + 1, value + 1, value + 1, false,
			rounds + 1},
		{"long before another", value + 9, value + 1, value + 9, false, rounds},
	} {
		s := &shared{counter: c.counter}
		s.note(me).done(rounds)
		if c.begun != 0 {
			s.note(me).begin(c.begun)
		}
		s.note(me + 1).done(100) // a process that has not died
		completed := s.repair()
		if s.counter != c.want || completed != c.completed ||
			s.note(me).rounds() != c.wantRounds ||
			s.note(me+1).rounds() != 100 {
			t.Errorf("it died %s: counter %d, completed %v, %d rounds; want "+
				"%d, %v, %d", c.died, s.counter, completed,
				s.note(me).rounds(), c.want, c.completed, c.wantRounds)
		}
	}
}

// Whatever message and counter contain, repair does not crash, and adds at most
// 1.
func FuzzRepair(f *testing.F) {
	f.Add(int32(5), []byte{0, 0, 0, 0, 6, 0, 0, 0, 1})
	f.Add(int32(-1), []byte{})
	f.Fuzz(func(t *testing.T, counter int32, message []byte) {
		s := &shared{counter: counter}
		copy(s.message[:], message)
		if s.repair() != (s.counter == counter+1) || s.counter-counter > 1 {
			t.Errorf("counter %d became %d", counter, s.counter)
		}
	})
}
