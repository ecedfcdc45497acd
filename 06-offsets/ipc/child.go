//go:build linux

package ipc

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pdeathsig is sent when the thread ends that started the child: so it must
// be the main thread, which ends with the process.
func init() { runtime.LockOSThread() }

// StartChild starts this program once more, with other arguments, as a child:
// a Go program cannot fork(2). The end of ctx kills it, and so does the end of
// this process, however it comes. Ctrl-C is for this process alone. See
// PR_SET_PDEATHSIG in prctl(2).
func StartChild(ctx context.Context, stdout io.Writer, args ...string) (
	*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true,
		Pdeathsig: unix.SIGKILL}
	if err = cmd.Start(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return cmd, err
}
