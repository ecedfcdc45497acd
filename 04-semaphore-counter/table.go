//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	size  = 404 // bytes of the segment
	lines = 100 // of the table

	slice = 200 * time.Millisecond // the longest sleep, then look at ctx
	cure  = "\nremove it with the same flags and -rm"
)

// table is the layout of the segment. A new segment is all zeros, and that is
// an empty table: nobody has to initialise it.
type table struct {
	Data  [lines]atomic.Int32 // offset 0: pids
	Count atomic.Int32        // offset 400: how many lines are used
}

// view lays table over an attached segment. It panics if mem is too short.
func view(mem []byte) *table {
	return (*table)(unsafe.Pointer((*[size]byte)(mem)))
}

// add is the critical section. It stores the count last. If the process dies
// before that, the new line is not part of the table.
func (t *table) add(ctx context.Context, pid int32) (count int32, err error) {
	old, err := t.next()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(*work):
	}
	t.Data[old].Store(pid)
	t.Count.Store(old + 1)
	return old + 1, nil
}

// next returns the first free line of the table.
func (t *table) next() (int32, error) {
	n := t.Count.Load()
	if n < 0 || n > lines {
		return 0, fmt.Errorf("key %#x: the count is %d, not 0 to %d"+cure,
			*key, n, lines)
	} else if n == lines {
		return 0, fmt.Errorf("key %#x: table full, %d processes"+cure,
			*key, lines)
	}
	return n, nil
}

// examine looks at a segment that shmget has opened, or refused to open. It
// returns an error unless it is this user's, and has the size of the table.
func examine(shmid int, err error) (int, error) {
	// EINVAL of shmget means that the segment is smaller than size. EACCES
	// means that it is another user's. Open it with size 0, to say more.
	if err == unix.EINVAL || err == unix.EACCES {
		if id, e := unix.SysvShmGet(*key, 0, 0); e == nil {
			shmid, err = id, nil
		}
	}
	var ds unix.SysvShmDesc
	if err == nil {
		_, err = unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	}
	switch {
	case err == unix.EACCES || err == nil && int(ds.Perm.Uid) != os.Geteuid():
		err = fmt.Errorf("%v: it is another user's\n"+
			"choose another key with -key", unix.EEXIST)
	case err == nil && ds.Segsz != size:
		err = fmt.Errorf("%v: it has %d bytes, not %d\nchoose another key "+
			"with -key; ipcrm -M %#x removes it", unix.EEXIST, ds.Segsz, size,
			*key)
	}
	return shmid, err
}

// removeTable removes the segment.
func removeTable() error {
	shmid, err := unix.SysvShmGet(*key, 0, 0)
	if shmid, err = examine(shmid, err); err == nil {
		_, err = unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	}
	return removal(fmt.Sprintf("segment of key %#x", *key), err)
}

// removal reports how a removal went. If there was nothing to remove, that is
// no error.
func removal(what string, err error) error {
	switch {
	case err == nil:
		log.Printf("removed the %s", what)
	case err == unix.ENOENT || removed(err):
		log.Printf("no %s", what)
	default:
		return fmt.Errorf("removing the %s: %w", what, err)
	}
	return nil
}

// removeEmpty is called if the lock cannot be opened. Perhaps this process has
// just created the segment, and then nobody else would remove it. So it removes
// the segment if the table is empty and no other process is attached.
func removeEmpty(shmid int, t *table) error {
	var ds unix.SysvShmDesc
	_, err := unix.SysvShmCtl(shmid, unix.IPC_STAT, &ds)
	if err == nil && ds.Nattch == 1 && t.Count.Load() == 0 {
		_, err = unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	}
	return err
}

// removed tells whether a call failed because its object has been removed. The
// object was there before, so EINVAL means that its id is no longer valid.
// EIDRM means that somebody removed it while this process waited.
func removed(err error) bool { return err == unix.EINVAL || err == unix.EIDRM }

// inSlices calls try again and again, as long as try returns EAGAIN or EINTR.
// A try waits for a slice at most. Between two slices inSlices looks at ctx, so
// a signal can end the wait. After 2 s it says once what it waits for. Only
// then does it call waitsFor, because the holder may change until then.
func inSlices(ctx context.Context, try func() error,
	waitsFor func() string) error {
	late := time.AfterFunc(2*time.Second, func() {
		log.Print("still waiting for ", waitsFor())
	})
	defer late.Stop()
	for ctx.Err() == nil {
		if err := try(); err != unix.EAGAIN && err != unix.EINTR {
			return err
		}
	}
	return context.Cause(ctx)
}
