//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// notAllowed adds to an error of SHM_LOCK which limit or right is missing,
// and what helps. Without the right, CAP_IPC_LOCK, the kernel allows each user
// RLIMIT_MEMLOCK bytes, for the pages of all segments that he has locked. See
// getrlimit(2) and capabilities(7).
func notAllowed(err error, size uint) error {
	var limit unix.Rlimit
	if e := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); e != nil {
		return errors.Join(err, fmt.Errorf("getrlimit: %w", e))
	}
	page := uint64(os.Getpagesize())
	need := (uint64(size) + page - 1) / page * page
	also := ""
	switch {
	case err == unix.EPERM && limit.Cur == 0:
		err = fmt.Errorf("%w: RLIMIT_MEMLOCK is 0, and CAP_IPC_LOCK is "+
			"missing", err)
	case err == unix.ENOMEM:
		err = fmt.Errorf("%w: %d bytes of whole pages, and RLIMIT_MEMLOCK is "+
			"%d", err, need, limit.Cur)
		also = ", plus what else this user has locked"
	default:
		return err
	}
	switch {
	case need > limit.Max:
		return fmt.Errorf("%w\nthe hard limit is %d KiB: only root can raise "+
			"it, to %d%s", err, limit.Max/1024, need/1024, also)
	case need <= limit.Cur:
		return fmt.Errorf("%w\nthis user has locked other segments: wait "+
			"until they are unlocked, or raise it with ulimit -l", err)
	}
	return fmt.Errorf("%w\nraise it with ulimit -l, in KiB: %d%s",
		err, need/1024, also)
}
