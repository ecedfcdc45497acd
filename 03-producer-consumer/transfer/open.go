//go:build linux

package transfer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/ipc"
)

// Open waits for the writer's segment, attaches it and finds the semaphores.
// There is one reader: if another is attached already, Open fails.
func Open(ctx context.Context, key, semKey ipc.Key, timeout time.Duration) (
	*Pair, error) {
	looks := 0
	onlyReader := func(ds unix.SysvShmDesc) error {
		switch {
		case ds.Nattch == 1:
			return nil
		case ds.Lpid == ds.Cpid && looks < 10:
			looks++ // while the writer is in shmat, the kernel counts it twice
			return unix.ENOENT
		}
		return fmt.Errorf("key %v: there is a reader already, pid %d", key,
			ds.Lpid)
	}
	var found time.Time // the first writer
	for {
		writer, err := ipc.Join(ctx, key, Size, 0, "writer", timeout,
			onlyReader)
		if err != nil {
			return nil, err
		}
		if found.IsZero() {
			found = time.Now()
		}
		sems, err := ipc.Semget(semKey, 2, 0)
		ds, gone := ipc.Stat(writer.Shmid)
		if err == nil && gone == nil && ds.Nattch == 2 {
			p := &Pair{Key: key, Sems: sems, peer: "writer", pid: writer.Pid,
				known: true}
			p.attached(writer.Shmid, writer.Mem)
			return p, nil
		}
		// The tutorial's writer makes the semaphores only now; or another
		// reader came at the same instant, and both step back.
		unix.SysvShmDetach(writer.Mem)
		late := time.Since(found) > 2*time.Second && err == unix.ENOENT
		if err != nil && err != unix.ENOENT || late {
			return nil, fmt.Errorf("semget key %v: %w\ngive both programs the "+
				"same -semkey", semKey, err)
		}
		if err := ipc.Pause(ctx, rand.N(5*ipc.Tick)); err != nil {
			return nil, err
		}
	}
}
