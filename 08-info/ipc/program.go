//go:build linux

// Package ipc is what the programs of this lesson need besides the subject of
// the lesson: start and end, flags, and careful ways to make an object and to
// find one. Other lessons have the same files; each lesson stands alone.
package ipc

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Tick is the time from one look to the next of a program that waits for
// something of which the kernel does not tell.
const Tick = 10 * time.Millisecond

var name = filepath.Base(os.Args[0])

// Main is the start and the end of a program: it parses the flags, lets run
// work, and exits with 0 when that is done, 1 and its error on standard
// error when it failed, 2 after wrong usage, 128+n when signal n ended it.
// A signal only ends ctx, so that run returns, and cleans up before it does.
// A failed write to stdout ends ctx too, so that run need not check for it.
func Main(run func(ctx context.Context, stdout io.Writer) error) {
	flag.Parse()
	wrong := strings.Join(flag.Args(), " ")
	if wrong == "" && flag.NArg() > 0 {
		wrong = `""`
	}
	flag.Visit(func(f *flag.Flag) {
		if value := f.Value.String(); strings.HasPrefix(value, "-") {
			wrong = "-" + f.Name + " " + value // no flag may be negative
		}
	})
	if wrong != "" {
		Note("wrong usage: %s", wrong)
		flag.Usage()
		os.Exit(2)
	}
	needFiles()
	ctx, cancel := context.WithCancelCause(context.Background())
	signal.Ignore(unix.SIGPIPE) // a write fails with EPIPE instead
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) { // as nohup(1) makes it
		signal.Notify(signals, unix.SIGHUP)
	}
	go func() {
		by := endedBy{(<-signals).(unix.Signal)}
		cancel(by)
		for start := time.Now(); time.Since(start) < time.Second; {
			<-signals // a closed terminal sends two; a later one insists
		}
		os.Exit(by.status())
	}()

	err := run(ctx, output{ctx, cancel})
	if err == nil {
		err = context.Cause(ctx) // a line was not written
	}
	var by endedBy
	var bad usage
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &bad):
		Note("wrong usage: %v", err)
		flag.Usage()
		os.Exit(2)
	case errors.Is(err, unix.EPIPE): // quietly, as any other filter
		os.Exit(endedBy{unix.SIGPIPE}.status())
	case errors.As(err, &by):
		Note("%v", err)
		os.Exit(by.status())
	default:
		Note("%v", err)
		cure(err)
		os.Exit(1)
	}
}

// needFiles ends the program while there is nothing to clean up, if it has no
// descriptors for the timers of the Go runtime, which would panic later.
func needFiles() {
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		Note("pipe: %v", err)
		cure(err)
		os.Exit(1)
	}
	unix.Close(fds[0])
	unix.Close(fds[1])
	time.AfterFunc(time.Hour, func() {}).Stop() // it takes them now
}

// cure says what helps against an error that has no cure yet.
func cure(err error) {
	switch {
	case strings.Contains(err.Error(), "\n"):
	case errors.Is(err, unix.EMFILE):
		fmt.Fprintln(os.Stderr, "ulimit -n says how many files may be open")
	case errors.Is(err, unix.ENOMEM):
		fmt.Fprintln(os.Stderr, "free -b shows how much memory there is, "+
			"ulimit -v how much a process may map")
	}
}

type usage string

func (u usage) Error() string { return string(u) }

// Usage returns an error for run to return when flags do not fit together.
func Usage(text string) error { return usage(text) }

// endedBy is the cause of a ctx that a signal has ended.
type endedBy struct{ unix.Signal }

func (e endedBy) Error() string { return "ended by signal: " + e.String() }
func (e endedBy) status() int   { return 128 + int(e.Signal) }

// output is standard output. An error ends ctx; and the end of ctx frees who
// is stuck in a full pipe.
type output struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Write waits until there is room, and then for no more than it takes to
// write 4 KiB, for which a pipe that poll(2) calls ready has room.
func (o output) Write(p []byte) (n int, err error) {
	const stdout, ready = 1, unix.POLLOUT
	for n < len(p) {
		if !always() {
			fds := []unix.PollFd{{Fd: stdout, Events: ready}}
			got, err := unix.Poll(fds, 100) // ms
			if cause := context.Cause(o.ctx); got == 0 && cause != nil {
				return n, cause
			} else if got == 0 || err == unix.EINTR {
				continue
			}
		}
		more, err := unix.Write(stdout, p[n:min(n+4096, len(p))])
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			err = fmt.Errorf("write /dev/stdout: %w", err)
			o.cancel(err)
			return n, err
		}
		n += max(0, more)
	}
	return n, nil
}

// always tells whether there is always room on stdout: in a file there is,
// and in /dev/null.
var always = sync.OnceValue(func() bool {
	var st unix.Stat_t
	err := unix.Fstat(1, &st)
	return err == nil && (st.Mode&unix.S_IFMT == unix.S_IFREG ||
		st.Rdev == unix.Mkdev(1, 3))
})

// Note prints a message that the tutorial's program does not have, on
// standard error.
func Note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, name+": "+format+"\n", args...)
}

// Pause waits for d, or for the end of ctx and then returns its cause.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return context.Cause(ctx)
}
