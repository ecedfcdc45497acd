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
// has it. If there is no object, that is no error. An object in use must stay,
// but RemoveLeftover waits for up to 2 s. In this time the last users may
// leave, or the creator may give it a size.
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
			return fmt.Errorf("shm_open %s: %v: in use\nwait until it ends, "+
				"or choose another name with -name", name, unix.EEXIST)
		}
		if err := Pause(ctx); err != nil {
			return err
		}
	}
}

// removeUnused removes the object that is open as fd. EAGAIN means: not now.
func removeUnused(fd int, name, path string, late bool) error {
	// If several programs want to remove it, only one gets the lease, and
	// removes it while it has the lease. So no other program can remove this
	// object first and create a new one, which this one would then remove.
	if err := Lease(fd, name); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat %s: %w", name, err)
	} else if st.Nlink == 0 {
		return nil // somebody else has removed it
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
		if err := Pause(ctx); err != nil {
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
	return false, err // without an error it is a leftover: no process has it
}

// Pause waits for a short random time, so that two processes do not always look
// at the same moment.
func Pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(rand.N(2 * pollInterval)):
		return nil
	}
}
