//go:build linux && (amd64 || arm64 || riscv64)

package main

import "os"

// An endpoint is how one of the two processes reaches the other. Where memory
// is shared, room and receive return a part of it. Elsewhere they return memory
// of this process, and the kernel copies from it or into it.
type endpoint interface {
	room(size int) ([]byte, error)    // returns where to write the next block
	send(size int) error              // sends the block that is written there
	receive(size int) ([]byte, error) // waits for the next block, returns it
	release() error                   // gives back the block last received
}

// A mechanism is a way from one process to another.
type mechanism struct {
	name   string
	copies int // of each byte, by the kernel: not measured
	create func() (objects, error)
	join   func(me, id int) (endpoint, error) // in a child, 0 or 1
	remove func(id int)
}

// objects are the kernel's objects of a mechanism: files, or one object of
// System V, which has an id, or both. Each of the two processes inherits its
// files, with the descriptors 3, 4 and so on.
type objects struct {
	files [2][]*os.File // of process 0 and 1
	id    int
}

func (o objects) close() {
	for _, files := range o.files {
		for _, f := range files {
			f.Close() // again, if both have it: no harm
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

// leave removes nothing. The kernel removes the object when no process has it
// open.
func leave(int) {}

func mechanismNamed(name string) (mechanism, bool) {
	for _, m := range mechanisms {
		if m.name == name {
			return m, true
		}
	}
	return mechanism{}, false
}
