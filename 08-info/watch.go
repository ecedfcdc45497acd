//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// history is how many changes are shown below the tables.
const history = 8

// watch shows the list once a second until ctx ends. It marks the differences
// from the second before: + in front of an object that appeared, * in front of
// one that changed. Below the tables it prints a line for each of them, and for
// each object that went.
func watch(ctx context.Context, stdout io.Writer) error {
	var before *snapshot
	var events []string
	for {
		now, err := take()
		if err != nil {
			return err
		}
		// Objects in use come first: there may be more objects than lines.
		slices.SortStableFunc(now.Objects, func(a, b *object) int {
			return min(1, len(b.Processes)) - min(1, len(a.Processes))
		})
		if before == nil {
			before = now
		}
		tables := now.tables(now.Time)
		for i, old := range before.tables(now.Time) {
			for _, event := range compare(old, tables[i]) {
				events = append(events, now.Time.Local().Format("15:04:05 ")+
					event)
			}
		}
		before = now

		columns, lines := screen()
		var text bytes.Buffer
		now.print(&text, tables, columns)
		if lines > 0 { // clear the screen; leave room for the changes below
			io.WriteString(stdout, "\033[H\033[2J")
			events = events[max(0, len(events)-history):]
			fit(&text, lines-len(events)-2)
		}
		fmt.Fprintln(&text)
		for _, event := range events {
			if lines > 0 {
				event = cut(event, columns)
			}
			fmt.Fprintln(&text, event)
		}
		if lines == 0 {
			events = nil // in a file, each is to be found once
		}
		if _, err := text.WriteTo(stdout); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// compare tells what is different between two tables, and marks the rows of
// the second one.
func compare(before, now []row) (events []string) {
	old := map[string]row{}
	for _, r := range before[1:] {
		old[r.what] = r
	}
	now[0].mark = "  "
	for i, r := range now[1:] {
		was, known := old[r.what]
		delete(old, r.what)
		mark := "  "
		if !known {
			mark = "+ "
			events = append(events, "+ "+r.what+" appeared: "+r.cells[0])
		} else if d := r.differs(was, now[0]); d != "" {
			mark = "* "
			events = append(events, "* "+r.what+" changed: "+d)
		}
		now[i+1].mark = mark
	}
	for _, r := range before[1:] {
		if _, went := old[r.what]; went {
			events = append(events, "- "+r.what+" went: "+r.cells[0])
		}
	}
	return events
}

// differs says in what way a row is not what it was. Ages are no difference,
// for both are as of now.
func (r row) differs(was, heading row) string {
	var all []string
	differ := func(what, before, now string) {
		if before != now {
			all = append(all, fmt.Sprintf("%s %s -> %s", what, before, now))
		}
	}
	for i, column := range heading.cells {
		differ(column, was.cells[i], r.cells[i])
	}
	differ("status", was.status, r.status)
	if !slices.Equal(was.processes, r.processes) {
		all = append(all, fmt.Sprintf("processes %s -> %s",
			some(was.processes, 40), some(r.processes, 40)))
	}
	return strings.Join(all, ", ")
}

// fit cuts text to n lines.
func fit(text *bytes.Buffer, n int) {
	all := strings.SplitAfter(text.String(), "\n")
	if len(all)-1 <= n {
		return
	}
	text.Reset()
	n = max(n, 2)
	text.WriteString(strings.Join(all[:n-1], ""))
	fmt.Fprintf(text, "… %d more lines\n", len(all)-n)
}
