//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"time"
)

// atomicOnly has no lock, and needs none. No process waits for another, so a
// killed process leaves nobody waiting.
type atomicOnly struct{ *table }

func openAtomic(_ context.Context, t *table) (mechanism, error) {
	return atomicOnly{t}, nil
}

func (a atomicOnly) lock(context.Context) error { return nil }
func (a atomicOnly) unlock() error              { return nil }

// add works first, at the same time as other processes. Then it tries to
// change the next line from 0 to its pid. Only one process can do that. After
// that, any process may count the line. So the line is counted even if the
// process that wrote its pid there is killed before it stores the count.
func (a atomicOnly) add(ctx context.Context, pid int32) (int32, error) {
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(*work):
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
