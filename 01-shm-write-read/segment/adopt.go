//go:build linux

package segment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/ipc"
)

// CreateOrAdopt is Create for the writer of this lesson, which also takes
// over the segment that a reader in C made and waits at. Such a one stays
// blank; that of another writer is blank for an instant only.
func CreateOrAdopt(ctx context.Context, key ipc.Key, mode ipc.Mode) (
	shmid int, mem []byte, err error) {
	shmid, mem, err = ipc.Create(ctx, key, Size, mode, nil)
	if err == nil && !View(mem).take() {
		unix.SysvShmDetach(mem)
		return 0, nil, fmt.Errorf("segment %d: another writer took it", shmid)
	} else if !errors.Is(err, unix.EEXIST) {
		return shmid, mem, err
	}
	shmid, _, refused := ipc.Lookup(key, Size)
	if refused == nil {
		mem, refused = ipc.Attach(shmid, 0)
	}
	if refused != nil {
		return 0, nil, err
	}
	shared := View(mem)
	const instant = 1500 * time.Millisecond
	for start := time.Now(); shared.Blank() && time.Since(start) < instant; {
		if ipc.Pause(ctx, ipc.Tick) != nil {
			break
		}
	}
	ds, gone := ipc.Stat(shmid)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case gone != nil || ipc.Exited(ds.Cpid): // nobody waits at it any more
		unix.SysvShmDetach(mem)
		return CreateOrAdopt(ctx, key, mode)
	case shared.take():
		return shmid, mem, nil
	}
	unix.SysvShmDetach(mem)
	return 0, nil, err
}

// take makes a blank segment this writer's. Of two who try, one gets it.
func (s *Shared) take() bool {
	return s.Blank() && s.Complete.CompareAndSwap(0, taken)
}
