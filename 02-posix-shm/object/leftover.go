//go:build linux && (amd64 || arm64 || riscv64)

package object

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

const pollInterval = 10 * time.Millisecond

// RemoveLeftover removes the object if a killed program left it: no process
// has it. It is no error if there is none. One that is in use must stay: its
// last users have 2 s to leave, and its maker has 2 s to give it a size.
func RemoveLeftover(ctx context.Context, name string, size int64) error {
	path, err := Path(name)
	if err != nil {
		return err
	}
	for start := time.Now(); ; {
		late := time.Since(start) > 2*time.Second
		fd, err := unix.Open(path, unix.O_RDWR|Careful, 0)
		err = Check(fd, err, name, size)
		if err == nil {
			err = removeUnused(fd, name, path, late)
			unix.Close(fd)
		}
		switch {
		case err == nil || err == unix.ENOENT:
			return nil
		case err != unix.EAGAIN:
			return err
		case late:
			return fmt.Errorf("shm_open %s: %w: in use\nwait until it ends, "+
				"or choose another name with -name", name, unix.EEXIST)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// removeUnused removes the object that fd is. EAGAIN: not now.
func removeUnused(fd int, name, path string, late bool) error {
	// Of several programs that want to remove it, one gets the lease. What
	// follows is done while it has it: no other can remove this object, and
	// put a new one in its place, which this one would remove in turn.
	if err := Lease(fd, name); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
		return err // it has no name any more
	}
	if st.Size == 0 && !late {
		return unix.EAGAIN // it is being created
	}
	log.Printf("removing %s, left by a killed program", name)
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("shm_unlink %s: %w", name, err)
	}
	return nil
}

// Wait waits until a process has an object of this size. If it has to wait, it
// says so once. A program that waits opens the object, too, for an instant, to
// look at it. Two that wait could take each other for the creator. So Wait
// believes only three looks in a row that find the object in use.
func Wait(ctx context.Context, name string, size int64) error {
	path, err := Path(name)
	if err != nil {
		return err
	}
	said := false
	for found := 0; found < 3; { // looks in a row
		used, err := inUse(name, path, size)
		if err != nil {
			return err
		}
		found++
		if !used {
			found = 0
			if !said {
				log.Printf("waiting for %s", name)
				said = true
			}
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// inUse tells whether there is an object of this size, and another process has
// it.
func inUse(name, path string, size int64) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|Careful, 0)
	err = Check(fd, err, name, size)
	if err == unix.ENOENT || err == unix.EAGAIN {
		return false, nil // there is none, or it cannot be opened just now
	} else if err != nil {
		return false, err
	}
	defer unix.Close(fd) // gives the lease back, too
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("fstat %s: %w", name, err)
	} else if st.Size != size {
		return false, nil // it is being created
	}
	if err = Lease(fd, name); err == unix.EAGAIN {
		return true, nil
	}
	return false, err // without an error nobody has it: it is a leftover
}

// pause waits for a moment, and not in step with others who look.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(rand.N(2 * pollInterval)):
		return nil
	}
}
