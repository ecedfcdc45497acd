//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"fmt"

	"example.com/shm-by-example/03-producer-consumer/segment"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

// removeLeftovers removes what a killed writer left. It begins with the
// segment: if the segment is in use, the semaphores are in use, too.
func removeLeftovers(ctx context.Context) error {
	err := segment.RemoveLeftover(ctx, *key, transfer.Size)
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}
	if err = transfer.RemoveLeftover(ctx, *semKey); err != nil {
		return fmt.Errorf("semget key %#x: %w", *semKey, err)
	}
	return nil
}
