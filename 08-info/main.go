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
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// program is the name of this program, as it was built: hints name it.
var program = filepath.Base(os.Args[0])

// A command is what the first argument chooses.
type command struct {
	name, does, example string

	flags func() // defines those that it has, if not nil
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
	log.SetPrefix(program + ": ")
	chosen := choose()
	flag.Parse()
	refuseTwice(os.Args[1:])
	if flag.NArg() > 0 { // a stray argument
		wrongUsage(fmt.Sprintf("stray argument %q", flag.Arg(0)))
	}
	// A signal does not kill the program. It ends ctx, and run returns.
	ctx, stop := signal.NotifyContext(context.Background(),
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	out := &checked{os.Stdout, nil}
	err := cmp.Or(chosen.run(ctx, out), out.failed)
	// A reader that has seen enough, as head has, is no failure.
	if err != nil && !errors.Is(err, unix.EPIPE) {
		log.Fatal(err)
	}
}

// A checked output remembers that a write failed.
type checked struct {
	io.Writer
	failed error
}

func (o *checked) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	o.failed = cmp.Or(o.failed, err)
	return n, err
}

// choose returns the command that the first argument names, and removes that
// argument. It also defines the command's flags.
func choose() command {
	chosen := commands[0]
	flag.Usage = overview
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		i := slices.IndexFunc(commands, func(c command) bool {
			return c.name == os.Args[1]
		})
		if i < 0 {
			wrongUsage(fmt.Sprintf("unknown command %q", os.Args[1]))
		}
		chosen = commands[i]
		flag.Usage = chosen.usage
		os.Args = os.Args[1:]
	}
	if chosen.flags != nil {
		chosen.flags()
	}
	return chosen
}

// usage prints the help of a command.
func (c command) usage() {
	fmt.Fprintf(os.Stderr, "Usage of %s %s: %s\n", program, c.name, c.does)
	flag.PrintDefaults()
	fmt.Fprintf(os.Stderr, "Example: %s %s%s\n", program, c.name, c.example)
}

// overview prints the help of the program without a command.
func overview() {
	fmt.Fprintf(os.Stderr, "Usage of %s: %[1]s COMMAND [FLAG...]\n", program)
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", c.name, c.does)
	}
	fmt.Fprintf(os.Stderr, "Without a command it is list, with its flags. "+
		"%s COMMAND -h shows a command's flags.\n", program)
}

// wrongUsage ends the program if its arguments are wrong. It is called before
// the program does anything.
func wrongUsage(text string) {
	log.Print(text)
	flag.Usage()
	os.Exit(2)
}
