//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// task is what a child is to do.
type task struct {
	Me        int // 0 begins, 1 answers
	Mechanism string
	ID        int // of its object
	Works     []work
}

// calls counts the system calls that send and receive blocks.
var calls int

// usage is the CPU time of the process, and the context switches and system
// calls of the thread that exchanges blocks.
type usage struct {
	CPU      time.Duration
	Switches int
	Calls    int
}

func usageNow() (usage, error) {
	var process, thread unix.Rusage
	err := errors.Join(unix.Getrusage(unix.RUSAGE_SELF, &process),
		unix.Getrusage(unix.RUSAGE_THREAD, &thread))
	return usage{time.Duration(process.Utime.Nano() + process.Stime.Nano()),
		int(thread.Nvcsw + thread.Nivcsw), calls}, err
}

// runChild is the main function of a child.
func runChild(ctx context.Context, text string) (err error) {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return fmt.Errorf("-child: %w", err)
	}
	m, ok := mechanismNamed(t.Mechanism)
	if !ok {
		return fmt.Errorf("no such mechanism: %q", t.Mechanism)
	}
	exchange := work.begin
	if t.Me == 1 {
		exchange = work.answer
	}
	// The parent removes the object, but it may be dead.
	defer func() {
		if err != nil {
			m.remove(t.ID)
		}
	}()
	defer context.AfterFunc(ctx, func() {
		m.remove(t.ID)
		os.Exit(1)
	})()
	// To run Go code, a thread needs one of the Go runtime's processors. If
	// there is only one, the runtime takes it from a thread in a system call,
	// and the thread has to get it back each time. So have two.
	runtime.GOMAXPROCS(2)
	e, err := m.join(t.Me, t.ID)
	if err != nil {
		return err
	}
	phases := make([]phase, len(t.Works))
	for i, w := range t.Works {
		before, err := usageNow()
		if err != nil {
			return fmt.Errorf("getrusage: %w", err)
		}
		phases[i], err = exchange(w, e)
		if err != nil {
			return err
		}
		after, err := usageNow()
		if err != nil {
			return fmt.Errorf("getrusage: %w", err)
		}
		phases[i].usage = usage{after.CPU - before.CPU,
			after.Switches - before.Switches, after.Calls - before.Calls}
	}
	return json.NewEncoder(os.Stdout).Encode(phases)
}
