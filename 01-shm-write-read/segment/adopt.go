//go:build linux

package segment

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Make is Create for the writer of this lesson, which also takes over the
// segment that a reader in C made and waits at. Such a one stays blank; the
// segment of another writer does not.
func Make(ctx context.Context, key Key, mode Mode) (int, []byte, error) {
	shmid, mem, err := Create(ctx, key, Size, mode)
	if !errors.Is(err, unix.EEXIST) {
		return shmid, mem, err
	}
	shmid, _, refused := Lookup(key, Size)
	if refused == nil {
		mem, refused = unix.SysvShmAttach(shmid, 0, 0)
	}
	if refused != nil {
		return 0, nil, err
	}
	shared := View(mem)
	for i := 0; i < 150 && shared.Blank() && ctx.Err() == nil; i++ {
		Pause(ctx, tick)
	}
	// Of two writers that come here at once, one takes it.
	if ctx.Err() == nil && shared.Blank() &&
		shared.Complete.CompareAndSwap(0, taken) {
		return shmid, mem, nil
	}
	unix.SysvShmDetach(mem)
	return 0, nil, errors.Join(context.Cause(ctx), err)
}
