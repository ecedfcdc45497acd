//go:build linux

package ipc

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// CreateTransient is Create for a segment that is to end with the processes
// that use it: it is marked for removal at once. From then on the key is free
// again, only the id leads to the segment, and the kernel frees that after
// the last detach, even if everybody is killed. Whoever else has the key for
// as short a time, such as another copy of the program, is waited for. See
// IPC_RMID in shmctl(2).
func CreateTransient(ctx context.Context, key Key, size int, mode Mode) (
	shmid int, mem []byte, err error) {
	for start := time.Now(); ; {
		shmid, mem, err = Create(ctx, key, size, mode, nil)
		if err == nil {
			return shmid, mem, Remove(shmid)
		}
		if !errors.Is(err, unix.EEXIST) || time.Since(start) > time.Second {
			return 0, nil, err
		}
		if err := Pause(ctx, Tick); err != nil {
			return 0, nil, err
		}
	}
}
