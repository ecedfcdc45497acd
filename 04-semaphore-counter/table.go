//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

const (
	size  = 404 // bytes of the segment
	slots = 100 // lines of the table
)

// layout is the layout of the segment. A new segment is all zeros, which is
// an empty table: nobody need initialise it, so nobody can be too late to.
type layout struct {
	Data  [slots]atomic.Int32 // offset 0: pids
	Count atomic.Int32        // offset 400: how many
}

// table is the segment as this process has it.
type table struct {
	*layout
	shmid int
	mem   []byte
}

// openTable attaches the segment of key, and makes it if there is none. It
// is persistent: whoever comes first makes it, and only -rm removes it.
func openTable(ctx context.Context, key ipc.Key, mode ipc.Mode) (
	*table, error) {
	flags := unix.IPC_CREAT | unix.IPC_EXCL | int(mode)
	for {
		shmid, _, err := ipc.Lookup(key, size)
		missing := err == unix.ENOENT
		if missing {
			shmid, err = unix.SysvShmGet(int(key), size, flags)
			if err != nil && err != unix.EEXIST {
				return nil, ipc.ShmgetError(key, size, err)
			}
		}
		var mem []byte
		if err == nil {
			mem, err = ipc.Attach(shmid, 0)
			if err != nil && missing { // ours, and -mode does not let us in
				ipc.Remove(shmid)
			}
		}
		switch err {
		case nil:
			l := (*layout)(unsafe.Pointer((*[size]byte)(mem)))
			return &table{l, shmid, mem}, nil
		case ipc.ErrRemoved, unix.EEXIST: // just now: look again
		default:
			return nil, err
		}
		if err := ipc.Pause(ctx, ipc.Tick); err != nil {
			return nil, err
		}
	}
}

// add is the critical section, whatever protects it. What a process that dies
// in it leaves behind counts only with the last store, which is one step.
func (t *table) add(ctx context.Context, pid int32, work time.Duration) (
	int32, error) {
	old, err := t.next()
	if err != nil {
		return 0, err
	}
	if err := ipc.Pause(ctx, work); err != nil {
		return 0, err
	}
	t.Data[old].Store(pid)
	t.Count.Store(old + 1)
	_, err = ipc.Stat(t.shmid) // not to say so if it was all for nothing
	return old + 1, err
}

// next returns the first free line of the table.
func (t *table) next() (int32, error) {
	if _, err := ipc.Stat(t.shmid); err != nil {
		return 0, err
	}
	n := t.Count.Load()
	if n < 0 || n > slots {
		return 0, fmt.Errorf("segment %d: its count is %d, of 0 to %d\n"+
			"remove it with the same flags and -rm", t.shmid, n, slots)
	} else if n == slots {
		return 0, fmt.Errorf("segment %d: table full, %d processes\n"+
			"remove it with the same flags and -rm", t.shmid, slots)
	}
	return n, nil
}

func (t *table) detach() error { return ipc.Detach(t.mem) }

// removeTable removes the segment of key, if there is one.
func removeTable(key ipc.Key) error {
	shmid, _, err := ipc.Lookup(key, size)
	if err == unix.ENOENT || errors.Is(err, unix.EIDRM) {
		ipc.Note("no segment of key %v", key)
		return nil
	} else if err != nil {
		return err
	}
	ipc.Note("removing segment %d of key %v", shmid, key)
	return ipc.Remove(shmid)
}
