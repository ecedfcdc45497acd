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
		marks := map[string]string{}
		if before != nil {
			events = append(events, now.changes(before, marks)...)
		}
		before = now

		columns, lines := screen()
		var text bytes.Buffer
		now.print(&text, columns, marks)
		if lines > 0 { // leave room for the changes below
			events = events[max(0, len(events)-history):]
			fit(&text, lines-len(events)-2)
			for _, event := range events {
				text.WriteString("\n" + cut(event, columns))
			}
			_, err = io.WriteString(stdout, "\033[H\033[2J"+text.String())
		} else {
			text.WriteString("\n")
			for _, event := range events {
				text.WriteString(event + "\n")
			}
			events = nil // in a file, each is written once
			_, err = fmt.Fprintln(stdout, &text)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if lines > 0 && len(events) > 0 {
				fmt.Fprintln(stdout)
			}
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// changes returns a line for each difference, and marks the objects.
func (s *snapshot) changes(before *snapshot, marks map[string]string) (
	events []string) {
	say := func(format string, args ...any) {
		events = append(events, s.Time.Local().Format("15:04:05 ")+
			fmt.Sprintf(format, args...))
	}
	old := map[string]row{}
	for _, l := range before.lines(s.Time) {
		old[l.what] = l.row
	}
	for _, l := range s.lines(s.Time) {
		was, known := old[l.what]
		delete(old, l.what)
		if !known {
			marks[l.what] = "+"
			say("+ %s appeared: %s", l.what, l.cells[0])
		} else if d := l.row.differs(was, l.heading); d != "" {
			marks[l.what] = "*"
			say("* %s changed: %s", l.what, d)
		}
	}
	for _, l := range before.lines(s.Time) {
		if _, went := old[l.what]; went {
			say("- %s went: %s", l.what, l.cells[0])
		}
	}
	return events
}

// A line is a row of one of the tables, and what it is about.
type line struct {
	what string
	row
	heading *row
}

// lines returns the lines of both tables.
func (s *snapshot) lines(now time.Time) (all []line) {
	for _, o := range s.Objects {
		all = append(all, line{o.String(), o.row(now), &objectHeading})
	}
	for _, set := range s.Sets {
		all = append(all, line{set.String(), set.row(now), &setHeading})
	}
	return all
}

// differs says in what way a row has changed. Ages make no difference: both
// rows were made with the same time.
func (r row) differs(was row, heading *row) string {
	var all []string
	differ := func(what, before, now string) {
		if before != now {
			all = append(all, fmt.Sprintf("%s %s -> %s", what, before, now))
		}
	}
	for i, name := range heading.cells {
		differ(name, was.cells[i], r.cells[i])
	}
	differ("status", was.status, r.status)
	if !slices.Equal(was.many, r.many) {
		all = append(all, fmt.Sprintf("processes %s -> %s",
			some(was.many, 40), some(r.many, 40)))
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
