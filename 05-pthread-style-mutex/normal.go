//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"

	"golang.org/x/sys/unix"
)

// count does the rounds of this process. Each locks the mutex, increments the
// counter, and unlocks the mutex.
func count(ctx context.Context, s *shared, stuck func() error) error {
	if *kind == "robust" {
		return countAsRobust(ctx, s, stuck) // in repair.go
	}
	for round := range *rounds {
		if round%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.mutex.lock(stuck); err != nil {
			return err
		}
		if *die && *child > 0 && round == *rounds/2 {
			unix.Kill(int(self), unix.SIGKILL)
		}
		s.counter++
		s.mutex.unlock()
	}
	return nil
}
