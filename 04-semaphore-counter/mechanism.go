//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/04-semaphore-counter/ipc"
)

// A mechanism keeps the updates of many processes apart. Each has a file of
// its own. Those that embed *table have its add.
type mechanism interface {
	// lock waits until no other process has the lock.
	lock(ctx context.Context) error
	// add enters pid into the table, which takes as long as work, and
	// returns the new count.
	add(ctx context.Context, pid int32, work time.Duration) (int32, error)
	unlock() error
}

// mechanisms are the values of -sync, each with a segment of its own.
var mechanisms = map[syncFlag]struct {
	key    ipc.Key
	open   func(context.Context, *table) (mechanism, error)
	remove func() error // what there is besides the segment
}{
	"sysv":   {54321, openSysV, removeSysV},
	"posix":  {54322, openPOSIX, removePOSIX},
	"atomic": {54323, openAtomic, func() error { return nil }},
	"none":   {54324, openNone, func() error { return nil }},
}

// syncFlag is the value of -sync.
type syncFlag string

func (s syncFlag) String() string { return string(s) }

func (s *syncFlag) Set(text string) error {
	if _, ok := mechanisms[syncFlag(text)]; !ok {
		return errors.New("want sysv, posix, atomic or none")
	}
	*s = syncFlag(text)
	return nil
}

func keys() string {
	return fmt.Sprint(uint32(mechanisms["sysv"].key), " to ",
		uint32(mechanisms["none"].key), ", by -sync")
}

// inSlices calls try, which waits for at the most d, again and again as long
// as it returns EAGAIN: so that a signal can end the wait. After 5 s it says
// what hint knows.
func inSlices(ctx context.Context, try func(d time.Duration) error,
	hint func() string) error {
	late := time.AfterFunc(5*time.Second, func() { ipc.Note("%s", hint()) })
	defer late.Stop()
	for {
		err := try(200 * time.Millisecond)
		if err != unix.EAGAIN {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}
