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
// So does a line that cannot be written to stdout: run need not look.
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
	ctx, end := context.WithCancelCause(context.Background())
	signal.Ignore(unix.SIGPIPE) // a write fails with EPIPE instead
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) { // as nohup(1) makes it
		signal.Notify(signals, unix.SIGHUP)
	}
	go func() {
		by := ended{(<-signals).(unix.Signal)}
		end(by)
		time.Sleep(time.Second) // and if run hangs, in a full pipe say:
		os.Exit(by.status())
	}()

	err := run(ctx, output(end))
	if err == nil {
		err = context.Cause(ctx) // a line was not written
	}
	by := ended{unix.SIGPIPE}
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, unix.EPIPE): // as quiet as any other filter
		os.Exit(by.status())
	}
	Note("%v", err)
	if errors.As(err, &by) {
		os.Exit(by.status())
	}
	os.Exit(1)
}

// ended is the cause of a ctx that a signal has ended.
type ended struct{ unix.Signal }

func (e ended) Error() string { return "ended by signal: " + e.String() }
func (e ended) status() int   { return 128 + int(e.Signal) }

// output is standard output; an error ends the context.
type output context.CancelCauseFunc

func (end output) Write(line []byte) (int, error) {
	n, err := os.Stdout.Write(line)
	if err != nil {
		end(err)
	}
	return n, err
}

// Note prints what is not the tutorial's, on standard error.
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
