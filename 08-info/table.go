//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A row is a line of a table: cells in columns, then the tail, which is a
// status and processes.
type row struct {
	what      string // the object that it is about
	cells     []string
	status    string
	processes []string
	more      bool   // there may be more processes
	mark      string // what -watch puts in front of the line
}

// printTable aligns the rows, the first of which is the heading: numbers to
// the right, names to the left. A terminal has so many columns of letters as
// width says. There, long texts are shortened, and a column that says nothing
// is left out. In a pipe, where width is 0, everything is printed.
func printTable(w io.Writer, rows []row, width int) {
	if width > 0 {
		rows = withoutEmptyColumns(rows)
	}
	room := math.MaxInt // for the tail
	widths := make([]int, len(rows[0].cells))
	for i, title := range rows[0].cells {
		for _, r := range rows {
			widths[i] = max(widths[i], letters(r.cells[i]))
		}
		if width == 0 {
			continue
		}
		switch title {
		case "key/name": // a key has 10 letters
			widths[i] = min(widths[i], max(10, width/8))
		case "owner":
			widths[i] = min(widths[i], 8)
		}
	}
	if width > 0 {
		room = width - len(rows[0].mark) - 1
		for _, n := range widths {
			room -= n + 1
		}
		room = max(room, 16) // in a narrow terminal, it goes on below
	}
	for _, r := range rows {
		line := r.mark
		for i, cell := range r.cells {
			switch rows[0].cells[i] {
			case "key/name", "key", "owner", "limit", "of":
				line += fmt.Sprintf("%-*s ", widths[i], cut(cell, widths[i]))
			default:
				line += fmt.Sprintf("%*s ", widths[i], cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line+" "+r.tail(room), " "))
	}
}

// withoutEmptyColumns leaves out the columns that have only 0 or - in them. A
// 0 that is an id says something.
func withoutEmptyColumns(rows []row) []row {
	shown := slices.Clone(rows)
	for n := range shown {
		shown[n].cells = nil
	}
	for i, title := range rows[0].cells {
		says := func(r row) bool {
			return r.cells[i] != "-" && (r.cells[i] != "0" || title == "id")
		}
		if len(rows) > 1 && !slices.ContainsFunc(rows[1:], says) {
			continue
		}
		for n, r := range rows {
			shown[n].cells = append(shown[n].cells, r.cells[i])
		}
	}
	return shown
}

// tail is the end of a line, in so many letters.
func (r row) tail(room int) string {
	status := cut(r.status, room)
	if status != "" {
		status += "  "
	}
	room -= letters(status)
	if r.more {
		who := some(r.processes, room-len(", ?"))
		return status + strings.TrimPrefix(who+", ?", ", ")
	}
	return status + some(r.processes, room)
}

// some puts as many texts into room letters as fit, and says how many do not.
func some(all []string, room int) string {
	for shown := len(all); shown > 0; shown-- {
		text, rest := strings.Join(all[:shown], ", "), ""
		if shown < len(all) {
			rest = fmt.Sprintf(", +%d", len(all)-shown)
		}
		if letters(text+rest) <= room {
			return text + rest
		} else if shown == 1 && letters(rest)+3 < room {
			return cut(text, room-letters(rest)) + rest
		}
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("+%d", len(all)) // not even one
}

// cut shortens a text in its middle: many names differ only at their ends.
func cut(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	n = max(n-1, 0) // one is the …
	return string(r[:n-n/2]) + "…" + string(r[len(r)-n/2:])
}

func letters(text string) int { return utf8.RuneCountInString(text) }

// screen returns the size of the terminal. It is 0 if standard output is a pipe
// or a file.
func screen() (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
