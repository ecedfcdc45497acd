//go:build linux && (amd64 || arm64 || riscv64)

package main

import "os"

// An endpoint is how one of the two processes reaches the other. Where memory
// is shared, room and receive return a part of it. Elsewhere they return memory
// of this process, from which, or into which, the kernel copies.
type endpoint interface {
	room(size int) ([]byte, error)    // for the next block to be sent
	send(size int) error              // the block that is in the room
	receive(size int) ([]byte, error) // the next block
	release() error                   // it, when it has been read
}

// A mechanism is a way between two processes.
type mechanism struct {
	name   string
	copies int // of each byte, by the kernel; known, not measured
	create func() (objects, error)
	join   func(me, id int) (endpoint, error) // in a child, 0 or 1
	remove func(id int)
}

// objects are what a mechanism consists of. Descriptors of each process are
// 3 and up there; what has none has an id.
type objects struct {
	files [2][]*os.File
	id    int
}

func (o objects) close() {
	for _, files := range o.files {
		for _, f := range files {
			f.Close() // twice, if both have it
		}
	}
}

var mechanisms = []mechanism{
	{"memory, spin", 0, createMemory, joinSpin, leave},
	{"memory, futex", 0, createMemory, joinFutex, leave},
	{"memory, semop", 0, createSemMemory, joinSemMemory, removeSemaphores},
	{"pipe", 2, createPipes, joinPipes, leave},
	{"Unix socket", 2, createUnix, joinSocket, leave},
	{"TCP", 2, createTCP, joinSocket, leave},
	{"System V queue", 2, createQueue, joinQueue, removeQueue},
	{"POSIX queue", 2, createMQ, joinMQ, leave},
}

// leave removes nothing: the kernel does, when no process has the object open.
func leave(int) {}

func mechanismNamed(name string) (mechanism, bool) {
	for _, m := range mechanisms {
		if m.name == name {
			return m, true
		}
	}
	return mechanism{}, false
}
