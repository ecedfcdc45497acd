//go:build linux

package transfer

import (
	"context"
	"errors"
	"time"

	"example.com/shm-by-example/03-producer-consumer/ipc"
)

// Create makes the segment and the semaphores for the writer. The semaphores
// come before the attach: a segment that is attached has its own, and not
// those of a run that crashed. See shmget(2), semget(2).
func Create(ctx context.Context, key, semKey ipc.Key, mode ipc.Mode,
	timeout time.Duration) (*Pair, error) {
	p := &Pair{Key: key, peer: "reader", timeout: timeout}
	made := false
	shmid, mem, err := ipc.Create(ctx, key, Size, mode, func() (err error) {
		if made {
			p.Sems.Remove() // those of a segment that has been removed
		}
		p.Sems, err = ipc.CreateSemaphores(semKey, mode, 1, 0)
		made = err == nil
		return err
	})
	if err != nil {
		if made {
			p.Sems.Remove()
		}
		return nil, err
	}
	p.attached(shmid, mem)
	return p, nil
}

// Remove removes the segment and the semaphores. See shmctl(2), semctl(2).
func (p *Pair) Remove() error {
	return errors.Join(ipc.Remove(p.shmid), p.Sems.Remove())
}
