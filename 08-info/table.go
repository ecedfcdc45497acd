//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
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
// width says. There, long texts are shortened, and a column that has only 0 or
// - in it is left out. In a pipe, where width is 0, everything is printed.
func printTable(w io.Writer, rows []row, width int) {
	room := math.MaxInt // for the tail
	widths := make([]int, len(rows[0].cells))
	for i, title := range rows[0].cells {
		says := width == 0 || len(rows) == 1
		for n, r := range rows {
			widths[i] = max(widths[i], letters(r.cells[i]))
			says = says || n > 0 && r.cells[i] != "-" &&
				(r.cells[i] != "0" || title == "id") // an id may be 0
		}
		switch {
		case !says:
			widths[i] = -1 // the column is left out
		case width > 0 && title == "key/name": // a key has 10 letters
			widths[i] = min(widths[i], max(10, width/8))
		case width > 0 && title == "owner":
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
			if widths[i] < 0 {
				continue
			}
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

var upToPid = regexp.MustCompile(`^[a-z ]*\d+ `)

// some puts as many texts into room letters as fit, and says how many do not.
// It never cuts a pid, and a process that is the only one has its pid shown.
func some(all []string, room int) string {
	for shown := len(all); shown > 0; shown-- {
		text, rest := strings.Join(all[:shown], ", "), ""
		if shown < len(all) {
			rest = fmt.Sprintf(", +%d", len(all)-shown)
		}
		if letters(text+rest) <= room {
			return text + rest
		}
		pid, n := len(upToPid.FindString(text)), room-letters(rest)-1
		if shown == 1 && (pid <= n || rest == "") {
			return string([]rune(text)[:max(n, pid)]) + "…" + rest
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
