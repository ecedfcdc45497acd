//go:build linux

// Package ipc is what the programs of this lesson need besides the subject of
// the lesson: start and end, flags, and careful ways to make an object and to
// find one. Other lessons have the same files; each lesson stands alone.
package ipc

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
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
	<-time.After(time.Millisecond) // a timer needs descriptors: fail now
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
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, unix.EPIPE): // quietly, as any other filter
		os.Exit(endedBy{unix.SIGPIPE}.status())
	case errors.As(err, &by):
		Note("%v", err)
		os.Exit(by.status())
	default:
		Note("%v", err)
		os.Exit(1)
	}
}

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

func (o output) Write(line []byte) (int, error) {
	line = bytes.Clone(line) // for it may outlive this call
	done := make(chan error, 1)
	go func() {
		_, err := os.Stdout.Write(line)
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-o.ctx.Done():
		select {
		case err = <-done:
		case <-time.After(100 * time.Millisecond): // then it is stuck
			err = context.Cause(o.ctx)
		}
	}
	if err != nil {
		o.cancel(err)
	}
	return len(line), err
}

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
