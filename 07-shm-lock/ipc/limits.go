//go:build linux

package ipc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ShmgetError says why shmget(2) made no segment: which of the kernel's limits
// there is to raise, or memory to free. See proc_sys_kernel(5).
func ShmgetError(key Key, size int, err error) error {
	limit, cause := "", fmt.Sprintf("%d bytes", size)
	switch err {
	case unix.EINVAL:
		limit = "shmmax"
	case unix.ENOSPC: // too many pages, or too many segments
		limit = "shmall"
		table, _ := os.ReadFile("/proc/sysvipc/shm")
		segments := max(0, strings.Count(string(table), "\n")-1)
		most, bad := strconv.Atoi(sysctl("shmmni"))
		if bad == nil && segments >= most {
			limit, cause = "shmmni", fmt.Sprintf("%d segments", segments)
		}
		cause += ", ipcs -m shows all"
	case unix.ENOMEM:
		return fmt.Errorf("shmget key %v: %w: %s\nfree -b shows how much "+
			"memory there is", key, err, cause)
	default:
		return fmt.Errorf("shmget key %v: %w", key, err)
	}
	return fmt.Errorf("shmget key %v: %w: %s, and kernel.%s is %s\nremove "+
		"what nobody needs with ipcrm, or ask root to raise it with sysctl",
		key, err, cause, limit, sysctl(limit))
}

// sysctl is one of the settings of System V IPC, as text.
func sysctl(name string) string {
	text, err := os.ReadFile("/proc/sys/kernel/" + name)
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text)), " ")
}
