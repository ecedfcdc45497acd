//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// semMemory is an endpoint of shared memory with System V semaphores, as in
// lesson 03. Each direction has two: one counts free slots, one full slots.
type semMemory struct {
	set             int
	outData, inData []byte
	put, taken      uint32
	me              int16
}

// The numbers of the semaphores for blocks of process 0. Those for blocks of
// process 1 are 2 more.
const freeSlots, fullSlots = 0, 1

func createSemMemory() (objects, error) {
	o, err := createMemory()
	if err != nil {
		return o, err
	}
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 4,
		unix.IPC_CREAT|0o600)
	if errno != 0 {
		o.close()
		return o, fmt.Errorf("semget: %w", errno)
	}
	o.id = int(id)
	for me := range int16(2) { // a new set's semaphores are 0
		if err := semop(o.id, 2*me+freeSlots, slots); err != nil {
			removeSemaphores(o.id)
			o.close()
			return o, err
		}
	}
	return o, nil
}

func removeSemaphores(id int) {
	unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, unix.IPC_RMID, 0, 0, 0)
}

func joinSemMemory(me, id int) (endpoint, error) {
	s, err := mapMemory()
	if err != nil {
		return nil, err
	}
	return &semMemory{set: id, me: int16(me), outData: s.data[me][:],
		inData: s.data[1-me][:]}, nil
}

func (m *semMemory) room(size int) ([]byte, error) {
	return slot(m.outData, m.put, size), semop(m.set, 2*m.me+freeSlots, -1)
}

func (m *semMemory) send(int) error {
	m.put++
	return semop(m.set, 2*m.me+fullSlots, 1)
}

func (m *semMemory) receive(size int) ([]byte, error) {
	err := semop(m.set, 2*(1-m.me)+fullSlots, -1)
	return slot(m.inData, m.taken, size), err
}

func (m *semMemory) release() error {
	m.taken++
	return semop(m.set, 2*(1-m.me)+freeSlots, 1)
}

// semop adds op to semaphore num, and waits if the value would become negative.
// Signals of the Go runtime may interrupt it at any time. See semop(2).
func semop(set int, num, op int16) error {
	operation := struct{ num, op, flag int16 }{num, op, 0}
	for {
		calls++
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(set),
			uintptr(unsafe.Pointer(&operation)), 1)
		if errno == 0 {
			return nil
		} else if errno != unix.EINTR {
			return fmt.Errorf("semop set %d: %w", set, errno)
		}
	}
}
