//go:build linux && (amd64 || arm64 || riscv64)

package transfer

import (
	"context"
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/segment"
)

// RemoveLeftover removes the semaphores of key if a killed pair left them: the
// last process to use either of them has ended. It returns nil once the key is
// free. See semctl(2).
func RemoveLeftover(ctx context.Context, key int) error {
	for start := time.Now(); ; {
		semid, err := Semget(key, 2, 0)
		if err == unix.ENOENT {
			return nil
		}
		found := err == nil
		var pids [2]int // 0: never used, or by another PID namespace
		for num := range pids {
			if err == nil {
				pids[num], err = Semctl(semid, num, GETPID, 0)
			}
		}
		waited := time.Since(start)
		runs := segment.Runs(int32(pids[0])) || segment.Runs(int32(pids[1]))
		young := pids == [2]int{} && waited < 2*time.Second // being created
		switch {
		case found && segment.Removed(err): // somebody has just removed it
		case err != nil: // another user's, or a smaller set
			return fmt.Errorf("%v: it is another user's, or has fewer than "+
				"two semaphores"+cure, err, key)
		case young, runs && waited < 3*time.Second: // it may be ending
		case runs:
			return fmt.Errorf("%v: in use by pid %d or %d"+cure, unix.EEXIST,
				pids[0], pids[1], key)
		default:
			log.Printf("removing semaphore set %d, left by a killed process, "+
				"pid %d", semid, pids[0])
			_, err := Semctl(semid, 0, unix.IPC_RMID, 0)
			if err != nil && !segment.Removed(err) {
				return err
			}
		}
		if err := segment.Pause(ctx, segment.PollInterval); err != nil {
			return err
		}
	}
}

const cure = "\nchoose another key with -semkey; ipcrm -S %#x removes the set"
