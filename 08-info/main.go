//go:build linux

// 08-info shows what the kernel knows of shared memory and who uses it, and
// does what can be done to a segment from outside.
//
//	go run ./08-info create -key 0x1234 -size 1032
//	go run ./08-info stat -key 0x1234
//	go run ./08-info list
//	go run ./08-info map -key 0x1234
//	go run ./08-info rm -key 0x1234
//
// Begin with stat.go, which has the tutorial's print_shared_memory_info.
// See shmctl(2).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"example.com/shm-by-example/08-info/ipc"
)

// A command is what the first argument chooses.
type command struct {
	name, does, example string

	flags func(*flag.FlagSet) // defines those that it has, if not nil
	run   func(ctx context.Context, stdout io.Writer) error
}

// The first is what is done where none is named.
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
	chosen, title, usage := commands[0], "08-info", overview
	for _, c := range commands {
		if len(os.Args) > 1 && os.Args[1] == c.name {
			chosen, title, usage = c, "08-info "+c.name, c.usage
		}
	}
	// Each command has flags of its own, and its name is none of them. An
	// unknown command stays in os.Args, and Main refuses it.
	flag.CommandLine = flag.NewFlagSet(title, flag.ExitOnError)
	flag.CommandLine.Usage, flag.Usage = usage, usage
	if title != "08-info" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	if chosen.flags != nil {
		chosen.flags(flag.CommandLine)
	}
	ipc.Main(chosen.run)
}

// usage is the help of a command.
func (c command) usage() {
	fmt.Fprintf(os.Stderr, "Usage of 08-info %s: %s\n", c.name, c.does)
	flag.PrintDefaults()
	fmt.Fprintf(os.Stderr, "Example: go run ./08-info %s%s\n",
		c.name, c.example)
}

// overview is the help of the program without a command.
func overview() {
	fmt.Fprintln(os.Stderr, "Usage of 08-info: go run ./08-info COMMAND "+
		"[FLAG...]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", c.name, c.does)
	}
	fmt.Fprintln(os.Stderr, "Without a command it is list. 08-info COMMAND "+
		"-h shows the command's flags.")
}
