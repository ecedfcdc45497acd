//go:build linux

package shm_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests of the statements have moved into the lessons. This file holds
// what other tests here still use of their helpers.

// No job is a peer or a test any more.
func (j job) doPeer() int { return failed }
func (j job) doTest() int { return failed }

func int32At(mem []byte, offset int) *int32 {
	return (*int32)(unsafe.Pointer(&mem[offset]))
}

// ftok is the function of the C library. It makes a key of the low bits of
// the inode number, of the device number and of id. See ftok(3).
func ftok(path string, id int) (int, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return int(st.Ino&0xffff) | int(st.Dev&0xff)<<16 | id&0xff<<24, err
}

// semctl applies a command to the first semaphore of a set; -1 is an error.
func semctl(id, command, value int) int {
	got, _, _ := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0,
		uintptr(command), uintptr(value), 0, 0)
	return int(got)
}

// semop adds n to a semaphore of a set, and waits until it can.
func semop(id, number, n, flags int) error {
	op := [3]int16{int16(number), int16(n), int16(flags)}
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(id),
			uintptr(unsafe.Pointer(&op)), 1)
		if errno == 0 {
			return nil
		} else if errno != unix.EINTR {
			return errno
		}
	}
}
