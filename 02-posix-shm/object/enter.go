//go:build linux && (amd64 || arm64 || riscv64)

package object

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// WaitForEnter waits for Enter, or the end of standard input. A signal, which
// ends ctx, ends the wait with an error.
func WaitForEnter(ctx context.Context) error {
	stdin := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	for ctx.Err() == nil {
		n, err := unix.Poll(stdin, 100) // ms, then look at ctx
		if n == 0 || err == unix.EINTR {
			continue
		}
		if err == nil {
			_, err = unix.Read(0, make([]byte, 1))
		}
		if err == nil {
			return nil
		} else if err != unix.EINTR && err != unix.EAGAIN {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	return context.Cause(ctx)
}
