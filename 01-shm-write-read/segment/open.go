//go:build linux

package segment

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/ipc"
)

const grace = 1500 * time.Millisecond // for a block, after the creator's end

// Writer is the other process, as a reader sees it that has its segment.
type Writer struct {
	Shmid   int
	Mem     []byte
	cpid    int32         // who created it: nearly always the writer
	exited  time.Time     // when that process was seen to have
	news    time.Time     // when the last block came
	timeout time.Duration // longest wait for the first; 0 is no limit
}

// Open waits for the segment of a writer that is alive and attaches it, to
// read and not to write. A dead writer's segment it ignores; the next writer
// replaces that. See shmat(2).
func Open(ctx context.Context, key ipc.Key, timeout time.Duration) (
	*Writer, error) {
	w := &Writer{news: time.Now(), timeout: timeout}
	waiting := sync.OnceFunc(func() {
		ipc.Note("waiting for a writer on key %v", key)
	})
	hint := time.AfterFunc(5*time.Second, func() {
		ipc.Note("still waiting: other -key, other user, other container?")
	})
	defer hint.Stop()
	for {
		shmid, ds, err := ipc.Lookup(key, Size)
		if err == nil && ds.Nattch > 0 && !ipc.Exited(ds.Cpid) {
			w.Shmid, w.cpid = shmid, ds.Cpid
			w.Mem, err = ipc.Attach(shmid, unix.SHM_RDONLY)
			if err == nil {
				return w, nil
			}
		}
		if err != nil && err != unix.ENOENT && err != unix.EIDRM {
			return nil, err
		}
		waiting()
		if err := w.Watch(ctx); err != nil {
			return nil, err
		}
	}
}

// Watch takes 10 ms and returns an error if no block can come any more. Look
// at the segment after it, so as not to miss what a dead writer wrote last.
func (w *Writer) Watch(ctx context.Context) error {
	err := ipc.Pause(ctx, ipc.Tick)
	switch {
	case err != nil:
		return err
	case w.timeout > 0 && time.Since(w.news) > w.timeout:
		return fmt.Errorf("no writer came within %v", w.timeout)
	case w.Mem == nil:
		return nil
	}
	ds, err := ipc.Stat(w.Shmid)
	if w.exited.IsZero() && ipc.Exited(w.cpid) {
		w.exited = time.Now()
	}
	switch dead := !w.exited.IsZero(); {
	case err != nil:
		return fmt.Errorf("segment %d: removed while in use", w.Shmid)
	case ds.Nattch == 1, dead && time.Since(w.exited) > grace:
		// The reader is alone; or others are there who do not write either.
		return fmt.Errorf("segment %d: its writer, pid %d, ended before it "+
			"was done", w.Shmid, ds.Cpid)
	case w.cpid == 0 && time.Since(w.news) > 30*time.Second:
		return fmt.Errorf("segment %d: no block in 30 s, from a writer that "+
			"cannot be seen from here", w.Shmid)
	}
	return nil
}

// GotBlock tells that one came. Who wrote it is alive: if the creator is not,
// that was only a reader in C, whose segment the writer has taken over.
func (w *Writer) GotBlock() {
	if w.news, w.timeout = time.Now(), 0; !w.exited.IsZero() {
		w.cpid, w.exited = 0, time.Time{}
	}
}
