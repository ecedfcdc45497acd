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

// task is what a child is to do, a flag.Value.
type task struct {
	Role      string // "begin" or "answer"
	Mechanism string
	ID        int // of its object
	Works     []work
}

func (t *task) String() string {
	if t.Role == "" {
		return ""
	}
	text, _ := json.Marshal(t)
	return string(text)
}

// Set takes JSON.
func (t *task) Set(s string) error {
	err := json.Unmarshal([]byte(s), t)
	if err == nil && t.Role != "begin" && t.Role != "answer" {
		err = errors.New("no such role")
	}
	return err
}

// calls counts the system calls that send and receive blocks.
var calls int

// use is what was spent: CPU time by the process, the rest by the thread that
// exchanges blocks.
type use struct {
	CPU      time.Duration
	Switches int
	Calls    int
}

func used() (use, error) {
	var process, thread unix.Rusage
	err := errors.Join(unix.Getrusage(unix.RUSAGE_SELF, &process),
		unix.Getrusage(unix.RUSAGE_THREAD, &thread))
	return use{time.Duration(process.Utime.Nano() + process.Stime.Nano()),
		int(thread.Nvcsw + thread.Nivcsw), calls}, err
}

// run is the main function of a child.
func (t task) run(ctx context.Context) (err error) {
	m, ok := mechanismNamed(t.Mechanism)
	if !ok {
		return fmt.Errorf("no such mechanism: %q", t.Mechanism)
	}
	me, exchange := 0, work.begin
	if t.Role == "answer" {
		me, exchange = 1, work.answer
	}
	// The parent removes the object; but it may be dead.
	defer func() {
		if err != nil {
			m.removeAside(t.ID)
		}
	}()
	defer context.AfterFunc(ctx, func() {
		m.removeAside(t.ID)
		os.Exit(1)
	})()
	// With a second processor Go's own looks at this thread are few: a thread
	// in a system call would have the only one taken away, and back, each
	// time.
	runtime.GOMAXPROCS(2)
	e, err := m.join(me, t.ID)
	if err != nil {
		return err
	}
	phases := make([]phase, len(t.Works))
	for i, w := range t.Works {
		before, err := used()
		if err != nil {
			return fmt.Errorf("getrusage: %w", err)
		}
		phases[i], err = exchange(w, e)
		if err != nil {
			return err
		}
		after, err := used()
		if err != nil {
			return fmt.Errorf("getrusage: %w", err)
		}
		phases[i].use = use{after.CPU - before.CPU,
			after.Switches - before.Switches, after.Calls - before.Calls}
	}
	return json.NewEncoder(os.Stdout).Encode(phases)
}

// removeAside removes an object in another thread: once the tracer of this
// one is dead, its calls fail.
func (m mechanism) removeAside(id int) {
	if m.remove == nil {
		return
	}
	removed := make(chan bool)
	go func() {
		m.remove(id)
		close(removed)
	}()
	<-removed
}
