//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shmLimits is what IPC_INFO fills in: struct shminfo, 72 bytes.
type shmLimits struct {
	max    uint64    // offset 0: bytes that one segment may have
	min    uint64    // offset 8: always 1
	mni    uint64    // offset 16: how many segments there may be
	seg    uint64    // offset 24: the same number
	all    uint64    // offset 32: pages that all segments may have together
	unused [4]uint64 // offset 40
}

// shmUsage is what SHM_INFO fills in: struct shm_info, 48 bytes.
type shmUsage struct {
	used int32     // offset 0: how many segments there are
	_    int32     // offset 4
	tot  uint64    // offset 8: pages of them, touched or not
	rss  uint64    // offset 16: pages in memory
	swp  uint64    // offset 24: pages in swap
	_    [2]uint64 // offset 32: always 0
}

// semLimits is struct seminfo. SEM_INFO puts what is in use into two fields.
type semLimits struct {
	_, mni, mns, _, msl, opm, _ int32 // offset 4: sets; then semaphores
	usz, _, aem                 int32 // offset 28: sets in use; semaphores
}

const semInfo = 19 // SEM_INFO in <linux/sem.h>

// noLimit is the kernel's value of shmmax and shmall until somebody sets them:
// the largest number less 16 Mi, ULONG_MAX - (1UL << 24). Some limits have the
// largest number itself.
const noLimit = 1<<64 - 1 - 1<<24

// limits prints what the kernel allows, what is in use, what is left, and how
// to change the limits of this IPC namespace and of /dev/shm.
func limits(_ context.Context, stdout io.Writer) error {
	// With these commands shmctl fills in other structs. Struct shmid_ds is
	// larger than both, so each fits into one.
	const ipcInfo = 3
	var buf [2]unix.SysvShmDesc
	allowed := (*shmLimits)(unsafe.Pointer(&buf[0]))
	inUse := (*shmUsage)(unsafe.Pointer(&buf[1]))
	if _, err := unix.SysvShmCtl(0, ipcInfo, &buf[0]); err != nil {
		return fmt.Errorf("shmctl IPC_INFO: %w", err)
	}
	highest, err := unix.SysvShmCtl(0, shmInfo, &buf[1])
	if err != nil {
		return fmt.Errorf("shmctl SHM_INFO: %w", err)
	}

	// For semaphores both commands fill in the same type of struct.
	var sems, semUse semLimits
	if _, err := semctl(0, 0, ipcInfo, unsafe.Pointer(&sems)); err != nil {
		return fmt.Errorf("semctl IPC_INFO: %w", err)
	}
	if _, err := semctl(0, 0, semInfo, unsafe.Pointer(&semUse)); err != nil {
		return fmt.Errorf("semctl SEM_INFO: %w", err)
	}

	table := []row{{cells: []string{"limit", "allowed", "of", "in use",
		"left"}},
		limit("shmmax", allowed.max, "bytes", nil),
		limit("shmall", allowed.all, "pages", &inUse.tot),
		limit("shmmni", allowed.mni, "segments", new(uint64(inUse.used))),
		limit("semmsl", uint64(sems.msl), "sems/set", nil),
		limit("semmns", uint64(sems.mns), "sems", new(uint64(semUse.aem))),
		limit("semopm", uint64(sems.opm), "ops", nil),
		limit("semmni", uint64(sems.mni), "sets", new(uint64(semUse.usz))),
	}
	remount := "size=N,nr_inodes=N"
	var shm unix.Statfs_t
	if unix.Statfs(shmDir, &shm) == nil {
		table = append(table,
			shmLimit("bytes", shm.Blocks, shm.Bfree, uint64(shm.Bsize)),
			shmLimit("inodes", shm.Files, shm.Ffree, 1))
		remount = fmt.Sprintf("size=%d,nr_inodes=%d",
			shm.Blocks*uint64(shm.Bsize), shm.Files)
	}
	var memlock unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &memlock) == nil {
		table = append(table, limit("memlock", memlock.Cur, "bytes", nil))
	}
	var text bytes.Buffer
	columns, _ := screen()
	printTable(&text, table, columns)
	fmt.Fprintf(&text, "\npages resident  %d\n", inUse.rss)
	fmt.Fprintf(&text, "pages swapped   %d\n", inUse.swp)
	fmt.Fprintf(&text, "highest index   %d\n", highest)
	fmt.Fprintf(&text, "page size       %d\n", os.Getpagesize())
	forced, _ := os.ReadFile("/proc/sys/kernel/shm_rmid_forced")
	fmt.Fprintf(&text, "shm_rmid_forced %s", forced)
	fmt.Fprintf(&text, howToChange, sems.msl, sems.mns, sems.opm, sems.mni,
		remount)
	stdout.Write(text.Bytes())
	s, err := scan()
	if err == nil {
		s.warnOfOtherShm()
	}
	return err
}

// howToChange tells how to change the limits. The four of sem go together, so
// the present ones are in the line. So is the present size of /dev/shm: a
// smaller one could be too small.
const howToChange = `
to change a limit, as root; numbers are the present ones, N is yours:
  sysctl -w kernel.shmmax=N
  sysctl -w kernel.shmall=N
  sysctl -w kernel.shmmni=N
  sysctl -w kernel.sem="%d %d %d %d"  # msl, mns, opm, mni
  mount -o remount,%s /dev/shm
  ulimit -l N  # memlock, in KiB, of this shell; limits.conf(5)
sysctl -w is for this IPC namespace, until the next boot; else sysctl.d(5)
`

// shmLimit is the line for something that /dev/shm has, in units of size.
func shmLimit(of string, all, free, size uint64) row {
	if all == 0 { // then it has no limit, and does not count
		return limit(shmDir, unix.RLIM_INFINITY, of, nil)
	}
	return limit(shmDir, all*size, of, new((all-free)*size))
}

// limit is a line: what is allowed, of what, and how much of it is in use, if
// that can be said.
func limit(title string, allowed uint64, of string, used *uint64) row {
	left := "-"
	if used != nil {
		left = fmt.Sprint(allowed - min(*used, allowed))
	}
	most := fmt.Sprint(allowed)
	if allowed >= noLimit {
		most, left = "unlimited", "-"
	}
	return row{cells: []string{title, most, of, count(used), left}}
}
