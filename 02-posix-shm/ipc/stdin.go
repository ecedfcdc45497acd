//go:build linux

package ipc

import (
	"context"
	"io"

	"golang.org/x/sys/unix"
)

// Stdin is standard input for programs that a signal must be able to end
// while they wait for it: then a read returns the cause of ctx.
type Stdin struct {
	Ctx  context.Context
	Idle func() error // if not nil: called now and then; an error ends it
}

// Read reads what there is, at least a byte. See poll(2) and read(2).
func (s Stdin) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	for {
		if err := context.Cause(s.Ctx); err != nil {
			return 0, err
		}
		ready, err := unix.Poll(fds, 100) // ms
		if ready == 0 && s.Idle != nil {
			if err := s.Idle(); err != nil {
				return 0, err
			}
		}
		if err == nil && ready == 0 || err == unix.EINTR {
			continue
		}
		n, err := unix.Read(0, p)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
