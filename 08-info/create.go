//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/08-info/ipc"
)

var (
	size uint
	mode = ipc.Mode(0o600) // for the owner only; no umask applies
)

func createFlags(flags *flag.FlagSet) {
	flags.Var(&key, "key", "`key` of the segment")
	flags.UintVar(&size, "size", 0, "size of the segment in `bytes`")
	flags.Var(&mode, "mode", "permission `bits` of a new segment, octal")
}

// create is the tutorial's safe_shared_memory_create: it makes a segment; or
// it uses the one that has the key, if that is as large as it should be and
// may be read and written; or it fails. The segment stays.
func create(ctx context.Context, stdout io.Writer) error {
	if key == 0 || size == 0 {
		return ipc.Usage("want -key, and -size from 1 on")
	}
	for {
		// Make a segment. With IPC_EXCL, one that exists is an error.
		did := "Created new shared memory segment"
		shmid, err := unix.SysvShmGet(int(key), int(size),
			unix.IPC_CREAT|unix.IPC_EXCL|int(mode))

		// There is one: find that, if it permits what mode does.
		if err == unix.EEXIST {
			did = "Using existing shared memory segment"
			shmid, err = unix.SysvShmGet(int(key), 0, int(mode))
			if err != nil && err != unix.ENOENT {
				return refuse("Cannot access existing segment: "+strerror(err),
					"shmget key %v: %w\nchoose another with -key: 08-info "+
						"list shows whose this is", key, err)
			}
		} else if err != nil {
			return refuse("shmget failed: "+strerror(err), "shmget key %v, "+
				"%d bytes: %w\n08-info limits shows what the kernel allows",
				key, size, err)
		}

		// Look at it once: the size that is checked is that of the segment
		// that is shown. Between two of these calls somebody may have
		// removed it; then there is none, and all begins again.
		var ds unix.SysvShmDesc
		if err == nil {
			ds, err = look(shmid)
		}
		switch {
		case err == unix.ENOENT || gone(err),
			err == nil && ds.Perm.Mode&shmDest != 0:
			if err := ipc.Pause(ctx, ipc.Tick); err != nil {
				return err
			}
			continue
		case err != nil:
			return explain("shmctl IPC_STAT", shmid, err)
		case ds.Segsz != uint64(size):
			return refuse(fmt.Sprintf("Size mismatch: expected %d, got %d",
				size, ds.Segsz), "shmget key %v: %w: %d bytes, %d wanted\n"+
				"choose another with -key, or remove it: 08-info rm -key %#x",
				key, unix.EEXIST, ds.Segsz, size, uint32(key))
		}
		fmt.Fprintln(stdout, did)
		printInfo(stdout, ds)
		return nil
	}
}

// refuse prints what the tutorial prints on standard error when it refuses,
// and returns an error that says more.
func refuse(line, format string, args ...any) error {
	fmt.Fprintln(os.Stderr, line)
	return fmt.Errorf(format, args...)
}

// strerror is the text of an error in C, which begins with a capital letter.
func strerror(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
