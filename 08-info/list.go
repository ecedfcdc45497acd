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
	"strconv"
	"time"
)

var asJSON, watching, showAll bool

func listFlags() {
	flag.BoolVar(&asJSON, "json", false, "print JSON: real numbers, bytes, "+
		"times of RFC 3339, null for what is not known")
	flag.BoolVar(&watching, "watch", false, "repaint every second, until "+
		"Ctrl-C, with what appeared, went and changed")
	flag.BoolVar(&showAll, "all", false, "show memfds and shared anonymous "+
		"memory, too")
}

// The headings of the tables.
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
		s.print(&text, s.tables(s.Time), columns)
	}
	stdout.Write(text.Bytes())
	if !asJSON {
		s.explainGaps()
	}
	s.survey.warnOfOtherShm()
	return nil
}

// tables are those of the objects and of the semaphore sets. Ages are as of
// now.
func (s *snapshot) tables(now time.Time) [2][]row {
	objects, sets := []row{objectHeading}, []row{setHeading}
	for _, o := range s.Objects {
		objects = append(objects, o.row(now))
	}
	for _, semaphores := range s.Sets {
		sets = append(sets, semaphores.row(now))
	}
	return [2][]row{objects, sets}
}

// print prints the header and the tables.
func (s *snapshot) print(w io.Writer, tables [2][]row, width int) {
	header := s.Namespace.String()
	if width > 0 {
		header = cut(header, width)
	}
	fmt.Fprintf(w, "%s\n\n", header)
	printTable(w, tables[0], width)
	if len(s.Sets) > 0 {
		fmt.Fprintln(w)
		printTable(w, tables[1], width)
	}
	if s.noSets != nil {
		fmt.Fprintf(w, "\n%v\n", s.noSets)
	}
}

// explainGaps says what the list cannot show, and why. A removed object is only
// found by a look into the processes that have it.
func (s *snapshot) explainGaps() {
	if !s.survey.whole {
		log.Printf("there may be more processes (?), and removed objects: %s",
			s.survey.unseen())
	}
	if slices.ContainsFunc(s.Sets, func(semaphores *semSet) bool {
		return semaphores.Values == nil
	}) {
		log.Printf("?: only users who may read a set can see its values")
	}
}

// String tells which namespace this is, how many others there are to be seen,
// and processes in some of them.
func (n namespace) String() string {
	var pids []string
	for _, other := range n.Others {
		pids = append(pids, strconv.Itoa(other.Pid))
	}
	text := fmt.Sprintf("IPC namespace %d; %d more seen", n.Inode, len(pids))
	if pids != nil {
		text += ", e.g. of pid " + some(pids, 30)
	}
	return text
}
