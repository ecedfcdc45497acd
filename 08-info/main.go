//go:build linux && (amd64 || arm64 || riscv64)

// 08-info shows what the kernel knows about a segment, and changes or removes
// it.
//
//	go run ./08-info create -key 0x1234 -size 1032
//	go run ./08-info stat -key 0x1234
//	go run ./08-info set -key 0x1234 -mode 640
//	go run ./08-info rm -key 0x1234
//
// These commands are the lesson: see stat.go, create.go and change.go. The
// other commands are a tool for all shared memory of a machine. Begin with
// list. See shmctl(2).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// A command is what the first argument chooses.
type command struct {
	name, does, example string

	flags func(*flag.FlagSet) // defines its flags; nil: it has none
	run   func(ctx context.Context, stdout io.Writer) error
}

// The first command runs if no command is named.
var commands = []command{
	{"list", "segments, POSIX objects, semaphores, and who uses them",
		" -watch", listFlags, list},
	{"stat", "what the kernel knows of one object",
		" -key 0x1234", anyFlags, stat},
	{"map", "a picture of an object: addresses, and the memory behind them",
		" -key 0x1234", mapFlags, drawMap},
	{"reap", "find leftovers, and remove them with -yes",
		" -older 1h", reapFlags, reap},
	{"limits", "what the kernel allows, what is in use, how to change it",
		"", nil, limits},
	{"create", "make a segment, or use the one there is",
		" -key 0x1234 -size 1032", createFlags, create},
	{"set", "change a segment's owner, group or mode",
		" -key 0x1234 -mode 640", setFlags, set},
	{"lock", "keep a segment's pages out of swap",
		" -key 0x1234", whichFlags, lock},
	{"unlock", "undo that", " -key 0x1234", whichFlags, unlock},
	{"rm", "remove a segment", " -key 0x1234", whichFlags, rm},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("08-info: ")
	chosen := choose()
	flag.Parse()
	if flag.NArg() > 0 { // a stray argument
		wrongUsage(fmt.Sprintf("stray argument %q", flag.Arg(0)))
	}
	// A signal does not kill the program. It ends ctx, and run returns.
	ctx, stop := signal.NotifyContext(context.Background(),
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	out := &checked{os.Stdout, nil}
	if err := cmp.Or(chosen.run(ctx, out), out.failed); err != nil {
		log.Fatal(err)
	}
}

// A checked output remembers that a write failed. It is no failure if the
// reader has seen enough and closes the pipe, as head does.
type checked struct {
	io.Writer
	failed error
}

func (o *checked) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && !errors.Is(err, unix.EPIPE) {
		o.failed = err
	}
	return n, err
}

// choose returns the command that the first argument names, and removes that
// argument. It also defines the command's flags.
func choose() command {
	chosen, title, usage := commands[0], "08-info", overview
	for _, c := range commands {
		if len(os.Args) > 1 && os.Args[1] == c.name {
			chosen, title, usage = c, "08-info "+c.name, c.usage
			os.Args = append(os.Args[:1], os.Args[2:]...)
			break
		}
	}
	flag.CommandLine = flag.NewFlagSet(title, flag.ExitOnError)
	flag.CommandLine.Usage, flag.Usage = usage, usage
	if title == "08-info" && len(os.Args) > 1 &&
		!strings.HasPrefix(os.Args[1], "-") {
		wrongUsage(fmt.Sprintf("unknown command %q", os.Args[1]))
	}
	if chosen.flags != nil {
		chosen.flags(flag.CommandLine)
	}
	return chosen
}

// usage prints the help of a command.
func (c command) usage() {
	fmt.Fprintf(os.Stderr, "Usage of 08-info %s: %s\n", c.name, c.does)
	flag.PrintDefaults()
	fmt.Fprintf(os.Stderr, "Example: 08-info %s%s\n", c.name, c.example)
}

// overview prints the help of the program without a command.
func overview() {
	fmt.Fprintln(os.Stderr, "Usage of 08-info: 08-info COMMAND [FLAG...]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", c.name, c.does)
	}
	fmt.Fprintln(os.Stderr, "Without a command it is list, with its flags. "+
		"08-info COMMAND -h shows a command's flags.")
}

// wrongUsage ends the program if its arguments are wrong. It is called before
// the program does anything.
func wrongUsage(text string) {
	log.Print(text)
	flag.Usage()
	os.Exit(2)
}
