//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"log"
	"os"
	"time"
)

// attached says, on standard error, which processes have the object mapped,
// and where.
func attached(o *object) error {
	s, err := scan()
	if err != nil {
		return err
	}
	if !o.complete(s, time.Now()) {
		return nil // it has gone meanwhile
	}
	for _, p := range o.Processes {
		for _, at := range p.spans {
			fmt.Fprintf(os.Stderr, "attached: %d %s at %#x to %#x, %s\n",
				p.Pid, p.Command, at.start, at.end, at.perms)
		}
		for _, fd := range p.Descriptors {
			fmt.Fprintf(os.Stderr, "open: %d %s as descriptor %d\n",
				p.Pid, p.Command, fd)
		}
	}
	if !o.Complete {
		log.Printf("%s", hiddenFrom(s.hidden))
	}
	return nil
}
