//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"
)

// outcome waits for the walker and makes its end the builder's: an error,
// after the walker has said why; a signal; or quietly, if nobody reads what
// it prints. The end of ctx is the walker's, too.
func outcome(ctx context.Context, walker *exec.Cmd) error {
	err := walker.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case walker.ProcessState.ExitCode() == 128+int(unix.SIGPIPE):
		return unix.EPIPE
	case err != nil:
		return fmt.Errorf("walker, pid %d: %w", walker.Process.Pid, err)
	}
	return nil
}
