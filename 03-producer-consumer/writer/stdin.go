//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// stdin is standard input for a program that must notice other things, too.
// While Read waits, it calls check every 200 ms. An error of check ends Read.
type stdin struct{ check func() error }

// Read reads what there is, and waits for at least one byte. See poll(2) and
// read(2).
func (s stdin) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	for {
		if err := s.check(); err != nil {
			return 0, err
		}
		ready, err := unix.Poll(fds, 200)
		if ready == 0 || err == unix.EINTR {
			continue
		}
		if inBackground() {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		n, err := unix.Read(0, p)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return 0, fmt.Errorf("read standard input: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// inBackground tells whether the terminal is another program's just now, as
// after "writer &". Then the kernel would stop the program in read(2), again
// and again, and no signal but SIGKILL would end it.
func inBackground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}
