//go:build linux

package main_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The tests in this file show what the tutorial states about addresses, or
// what is true instead. The table at the end of README.md names a test for
// each statement.

const shmRemap = 0o40000 // SHM_REMAP in <linux/shm.h>

// "Only a child made afterwards can use an IPC_PRIVATE segment": every
// process that learns its id can. This one was there before the segment.
func TestStatement02PrivateForWhoKnowsTheID(t *testing.T) {
	other := newPeer(t, func(test conn) {
		test.say(0)
		*firstWord(attach(t, test.hear())) = 42
		test.say(0)
	})
	other.hear() // it runs
	id := newSegment(t, 4)
	mem := attach(t, id)
	other.say(id)
	other.hear()
	if got := *firstWord(mem); got != 42 {
		t.Errorf("%d in the segment, want 42", got)
	}
}

// An address that the program chooses may be taken. Then shmat fails.
func TestStatement10AddressTaken(t *testing.T) {
	taken := newPlace(t, pageSize)
	_, err := attachAt(newSegment(t, 1), addressOf(taken), 0)
	want(t, "shmat at an address in use", err, unix.EINVAL)
}

// Without SHM_RND the address must be that of a page. (SHM_REMAP lets the
// test use a place of its own, which no other mapping can take.)
func TestStatement11PageAligned(t *testing.T) {
	id, place := newSegment(t, 1), newPlace(t, pageSize)
	_, err := attachAt(id, addressOf(place)+8, shmRemap)
	want(t, "shmat 8 bytes into a page", err, unix.EINVAL)
	_, err = attachAt(id, addressOf(place), shmRemap)
	want(t, "shmat at a page", err, nil)
}

// "SHM_RND takes the nearest multiple of SHMLBA": it rounds down, even one
// byte below the next multiple. (On most machines SHMLBA is a page.)
func TestStatement12RoundsDown(t *testing.T) {
	page := uintptr(pageSize)
	place := newPlace(t, 16*pageSize)
	asked := addressOf(place) + 9*page - 1
	got, err := attachAt(newSegment(t, 1), asked, unix.SHM_RND|shmRemap)
	want(t, "shmat", err, nil)
	if got > asked || got%page != 0 || asked-got < page-1 {
		t.Errorf("asked for %#x, got %#x", asked, got)
	}
}

// SHM_REMAP replaces the mapping at the address. Without it, shmat fails.
func TestStatement15Remap(t *testing.T) {
	id := newSegment(t, pageSize)
	*firstWord(attach(t, id)) = 15
	place := newPlace(t, pageSize)
	_, err := attachAt(id, addressOf(place), 0)
	want(t, "shmat", err, unix.EINVAL)
	_, err = attachAt(id, addressOf(place), shmRemap)
	want(t, "shmat SHM_REMAP", err, nil)
	if got := *firstWord(place); got != 15 {
		t.Errorf("%d is there, want the segment's 15", got)
	}
}

// Two processes have the same physical page, at different addresses.
func TestStatement19SamePagesOtherAddress(t *testing.T) {
	other := newPeer(t, func(test conn) {
		id, here := test.hear(), uintptr(test.hear())
		mem := attachElsewhere(t, id, here)
		test.say(int(addressOf(mem)))
		test.say(int(*firstWord(mem)))
		test.say(frame(mem))
	})
	id := newSegment(t, 4)
	mem := attach(t, id)
	*firstWord(mem) = 19
	other.say(id)
	other.say(int(addressOf(mem)))
	if at := other.hear(); at == int(addressOf(mem)) {
		t.Errorf("both are at %#x", at)
	}
	if got := other.hear(); got != 19 {
		t.Errorf("the other process reads %d, want 19", got)
	}
	ours, theirs := frame(mem), other.hear()
	if ours != theirs {
		t.Errorf("physical pages %#x and %#x", ours, theirs)
	}
	if ours == 0 {
		t.Log("the kernel tells the physical pages to CAP_SYS_ADMIN only")
	}
}

// Processes that are attached can use a segment that is marked for removal.
// On Linux, others can even attach it, by its id.
func TestStatement25MarkedIsUsable(t *testing.T) {
	other := newPeer(t, func(test conn) {
		*firstWord(attach(t, test.hear())) = 25
		test.say(0)
	})
	id := newSegment(t, 4)
	mem := attach(t, id)
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	want(t, "IPC_RMID", err, nil)
	other.say(id)
	other.hear()
	if got := *firstWord(mem); got != 25 {
		t.Errorf("%d in the segment, want the other process's 25", got)
	}
}

// A pointer means nothing in another process, which has the segment at
// another address. An offset is valid there, too.
func TestStatement46OffsetsNotPointers(t *testing.T) {
	const offset = 46
	other := newPeer(t, func(test conn) {
		id, here := test.hear(), uintptr(test.hear())
		mem := attachElsewhere(t, id, here)
		test.say(int(addressOf(mem)))
		test.say(int(mem[offset]))
	})
	id := newSegment(t, 4096)
	mem := attach(t, id)
	mem[offset] = 'x'
	pointer := addressOf(mem[offset:])
	other.say(id)
	other.say(int(addressOf(mem)))
	if base := uintptr(other.hear()); base+offset == pointer {
		t.Errorf("the pointer %#x is valid there, too", pointer)
	}
	if got := other.hear(); got != 'x' {
		t.Errorf("at the offset there is %q, want x", rune(got))
	}
}
