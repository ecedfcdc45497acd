//go:build linux

package shm_test

import (
	"fmt"
	"os"
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
	case "setarch": // run a program without random addresses
		return tries(exec.Command("setarch", "-R", "true"), nil), nil
	case "memlock": // lock a page of shared memory
		return locks()
	case "limited": // be refused that, under a limit of 0
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
			return false, err
		}
		none := unix.Rlimit{Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none); err != nil {
			return false, err
		}
		defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old)
		ok, err := locks()
		return !ok, err
	case "namespaces": // run a program in IPC, PID and mount namespaces
		return tries(exec.Command("unshare", "--ipc", "--pid", "--fork", "--mount-proc", "true"), nil), nil
	case "unshare": // be alone with one's System V objects
		return tries(exec.Command("unshare", "-Ur", "--ipc", "true"), nil), nil
	case "race": // these tests, and so the programs, are built with -race
		return raceEnabled(), nil
	case "strace": // trace a program and make its calls fail
		return tries(exec.Command("strace", "-o", "/dev/null", "true"), nil), nil
	case "sysctl": // lower the limits of this IPC namespace
		text, err := os.ReadFile("/proc/sys/kernel/shmmni")
		if err == nil {
			err = os.WriteFile("/proc/sys/kernel/shmmni", text, 0)
		}
		return err == nil, nil
	case "setpriv": // take rights away for good
		cmd := exec.Command("true")
		withoutRights(cmd)
		return cmd.Run() == nil, nil
	case "pidns": // run a program in a PID namespace of its own
		cmd := exec.Command("true")
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		inPIDNamespace(cmd)
		return cmd.Run() == nil, nil
	case "seccomp": // be asked about the calls of a program, Linux 5.5
		cmd := exec.Command("true")
		started, err := watch(cmd, func(call) fate { return fate{} })
		if err == nil && cmd.Start() == nil {
			started()
			err = cmd.Wait()
		}
		return err == nil, nil
	}
	return false, fmt.Errorf("no such condition: %s", name)
}

func tries(cmd *exec.Cmd, attr *syscall.SysProcAttr) bool {
	cmd.SysProcAttr = attr
	return cmd.Run() == nil
}

// locks tells whether this process may lock a segment of one page into RAM.
func locks() (bool, error) {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
	if err != nil {
		return false, err
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	const shmLock = 11
	_, err = unix.SysvShmCtl(id, shmLock, nil)
	return err == nil, nil
}
