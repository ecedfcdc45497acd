//go:build linux

package shm_test

import (
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// condition tells whether this process can do what a script needs. It tries,
// instead of looking at the uid: root in a container can often do little.
func condition(name string) (bool, error) {
	switch name {
	case "setuid": // run a program as another user
		return tries(exec.Command("true"), &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 65534, Gid: 65534},
		}), nil
	case "chown": // give a segment to the user 65534
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
		if err != nil {
			return false, err
		}
		defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		var ds unix.SysvShmDesc
		if _, err = unix.SysvShmCtl(id, unix.IPC_STAT, &ds); err == nil {
			ds.Perm.Uid = 65534
			_, err = unix.SysvShmCtl(id, unix.IPC_SET, &ds)
		}
		return err == nil, nil
	case "strace": // trace a program and make its calls fail
		return tries(exec.Command("strace", "-o", "/dev/null", "true"), nil), nil
	}
	return false, fmt.Errorf("no such condition: %s", name)
}

func tries(cmd *exec.Cmd, attr *syscall.SysProcAttr) bool {
	cmd.SysProcAttr = attr
	return cmd.Run() == nil
}
