//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"slices"
)

var asJSON, watching, showAll bool

func listFlags(flags *flag.FlagSet) {
	flags.BoolVar(&asJSON, "json", false, "print JSON: real numbers, bytes, "+
		"times of RFC 3339, null for what is not known")
	flags.BoolVar(&watching, "watch", false, "repaint every second, until "+
		"Ctrl-C, with what appeared, went and changed")
	flags.BoolVar(&showAll, "all", false, "show memfds and shared anonymous "+
		"memory, too")
}

// The headings of the tables. A segment was used when it was last attached,
// detached or changed.
var (
	objectHeading = row{cells: []string{"key/name", "id", "owner", "mode",
		"bytes", "resident", "swap", "att", "used"},
		status: "status, processes"}
	setHeading = row{cells: []string{"key", "id", "owner", "mode", "n",
		"waiting", "otime", "ctime"},
		status: "values, processes"}
)

// list prints a line for each object of this IPC namespace and of /dev/shm, of
// all users.
func list(ctx context.Context, stdout io.Writer) error {
	switch {
	case asJSON && watching:
		wrongUsage("want one of -json and -watch")
	case watching:
		return watch(ctx, stdout)
	}
	s, err := take()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if asJSON {
		e := json.NewEncoder(&text)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			return err
		}
	} else {
		columns, _ := screen()
		s.print(&text, columns, nil)
	}
	stdout.Write(text.Bytes())
	incomplete := func(o *object) bool { return !o.Complete }
	if !asJSON && slices.ContainsFunc(s.Objects, incomplete) {
		log.Printf("?: %s", hiddenFrom(s.survey.hidden))
	}
	unread := func(set *semSet) bool { return set.Values == nil }
	if !asJSON && slices.ContainsFunc(s.Sets, unread) {
		log.Printf("?: only users who may read a set can see its values")
	}
	if pid := s.survey.elsewhere; pid != 0 {
		log.Printf("/dev/shm is another one for process %d of this IPC "+
			"namespace: nsenter -t %[1]d --ipc --mount --pid", pid)
	}
	return nil
}

// print prints the header and the tables. Marks are for -watch: each is printed
// in front of a line. If marks is nil, not even a space is.
func (s *snapshot) print(w io.Writer, width int, marks map[string]string) {
	header := s.Namespace.String()
	if width > 0 {
		header = cut(header, width)
	}
	fmt.Fprintf(w, "%s\n\n", header)
	tables := map[*row][]row{}
	for _, l := range s.lines(s.Time) {
		if marks != nil {
			l.mark = fmt.Sprintf("%-2s", marks[l.what])
		}
		tables[l.heading] = append(tables[l.heading], l.row)
	}
	for i, heading := range []*row{&objectHeading, &setHeading} {
		if i > 0 && len(tables[heading]) == 0 {
			break // semaphores are rare
		} else if i > 0 {
			fmt.Fprintln(w)
		}
		first := *heading
		if marks != nil {
			first.mark = "  "
		}
		printTable(w, append([]row{first}, tables[heading]...), width)
	}
	if s.noSets != nil {
		fmt.Fprintf(w, "\n%v\n", s.noSets)
	}
}

// String says which namespace this is, how many others can be seen, and names
// some processes in them.
func (n namespace) String() string {
	text := fmt.Sprintf("IPC namespace %d; %d more", n.Inode,
		len(n.Others))
	for i, other := range n.Others {
		switch {
		case i == 0:
			text += fmt.Sprintf(", e.g. of pid %d", other.Pid)
		case i < 3:
			text += fmt.Sprintf(", %d", other.Pid)
		default:
			return text + fmt.Sprintf(", +%d", len(n.Others)-i)
		}
	}
	return text
}
