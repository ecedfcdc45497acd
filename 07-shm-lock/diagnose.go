//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// diagnose adds to an error of SHM_LOCK why the kernel refuses the lock, and
// what helps. With CAP_IPC_LOCK there is no limit. Without it, all segments
// that a user has locked may have RLIMIT_MEMLOCK bytes together, in whole
// pages. See getrlimit(2) and capabilities(7).
func diagnose(err error, size int) error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil {
		return err
	}
	page := uint64(os.Getpagesize())
	need := (uint64(size) + page - 1) / page * page
	switch {
	case err == unix.EPERM && limit.Cur == 0:
		err = fmt.Errorf("%w: RLIMIT_MEMLOCK is 0, and CAP_IPC_LOCK is "+
			"missing", err)
	case err == unix.ENOMEM:
		err = fmt.Errorf("%w: %d bytes, plus what this user has locked "+
			"already, are more than RLIMIT_MEMLOCK, %d", err, need, limit.Cur)
	default:
		return err // it has nothing to do with the limit
	}
	cure := "raise it with ulimit -l"
	if need > limit.Max {
		cure = fmt.Sprintf("the hard limit is %d KiB: only root can raise it",
			limit.Max/1024)
	}
	return fmt.Errorf("%w\n%s, to %d KiB plus what else this user has locked",
		err, cure, need/1024)
}
