//go:build linux

package main

import (
	"context"
	"time"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

// atomicOnly has no lock, and needs none: nobody waits for anybody, and so
// nobody can be left waiting by one who was killed.
type atomicOnly struct{ *table }

func openAtomic(_ context.Context, t *table) (mechanism, error) {
	return atomicOnly{t}, nil
}

func (a atomicOnly) lock(context.Context) error { return nil }
func (a atomicOnly) unlock() error              { return nil }

// add works first, at the same time as others. Then it tries to be the one
// who changes the next line from 0 to its pid. Whoever has done that, anyone
// may count the line, so one killed in between is counted all the same.
func (a atomicOnly) add(ctx context.Context, pid int32, work time.Duration) (
	int32, error) {
	if err := ipc.Pause(ctx, work); err != nil {
		return 0, err
	}
	for {
		n, err := a.next()
		if err != nil {
			return 0, err
		}
		mine := a.Data[n].CompareAndSwap(0, pid)
		a.Count.CompareAndSwap(n, n+1)
		if mine {
			return n + 1, nil
		}
	}
}
