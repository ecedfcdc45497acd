//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	wantedSize uint
	wantedMode uint32 = 0o600 // for the owner only; no umask applies
)

func createFlags() {
	numberFlag(&given.key, "key", "`key` of the segment", 1)
	flag.UintVar(&wantedSize, "size", 0, "size of the segment in `bytes`")
	flag.Func("mode", "permission `bits` of a new segment, octal "+
		"(default 600)", func(s string) (err error) {
		wantedMode, err = octal(s)
		return err
	})
}

// octal reads permission bits, with or without a 0 in front: 640, 0640.
func octal(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 9)
	if err != nil {
		err = errors.New("want octal digits, up to 777")
	}
	return uint32(n), err
}

// create is the tutorial's safe_shared_memory_create. It creates a segment. If
// there is one already, it uses that one, if the size is right and this user
// may use it. Otherwise it fails. The segment stays.
func create(ctx context.Context, stdout io.Writer) error {
	if given.key == 0 || wantedSize == 0 {
		wrongUsage("want -key, and -size from 1 on")
	}
	for {
		// Create a segment. With IPC_EXCL it is an error if there is one.
		did := "Created new shared memory segment"
		shmid, err := unix.SysvShmGet(given.key, int(wantedSize),
			unix.IPC_CREAT|unix.IPC_EXCL|int(wantedMode))

		// There is one. Find it, if its permissions include those of -mode.
		if err == unix.EEXIST {
			did = "Using existing shared memory segment"
			shmid, err = unix.SysvShmGet(given.key, 0, int(wantedMode))
			if err != nil && err != unix.ENOENT {
				return refuse("Cannot access existing segment: "+strerror(err),
					"shmget key %#x: %w\nchoose another with -key: %s list "+
						"shows whose this is", uint32(given.key), err, program)
			}
		} else if err != nil {
			return refuse("shmget failed: "+strerror(err), "shmget key %#x, "+
				"%d bytes: %w\n%s limits shows what the kernel allows",
				uint32(given.key), wantedSize, err, program)
		}

		// Look at it once, so that the size we compare is the size we print.
		var ds unix.SysvShmDesc
		if err == nil {
			ds, err = look(shmid)
		}
		switch {
		case err == unix.ENOENT || gone(err),
			err == nil && ds.Perm.Mode&shmDest != 0:
			// Somebody has removed it between two of these calls. Begin again.
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
			continue
		case err != nil:
			return explain("shmctl IPC_STAT", shmid, err)
		case ds.Segsz != uint64(wantedSize):
			return refuse(fmt.Sprintf("Size mismatch: expected %d, got %d",
				wantedSize, ds.Segsz), "shmget key %#x: %w: %d bytes, "+
				"%d wanted; attached: %d\nchoose another with -key, or see "+
				"if it is a leftover: %s reap -key %#[1]x", uint32(given.key),
				unix.EEXIST, ds.Segsz, wantedSize, ds.Nattch, program)
		}
		fmt.Fprintln(stdout, did)
		printInfo(stdout, ds)
		return nil
	}
}

// refuse prints the tutorial's line for a refusal on standard error. It returns
// an error that says more.
func refuse(line, format string, args ...any) error {
	fmt.Fprintln(os.Stderr, line)
	return fmt.Errorf(format, args...)
}

// strerror returns the text that C has for an error. It begins with a capital
// letter.
func strerror(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
