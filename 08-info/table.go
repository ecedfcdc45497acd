//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A row is a line of a table: cells in columns, then a status, then what
// there may be many of.
type row struct {
	cells  []string
	status string
	many   []string
	mark   string // what -watch has in front of it
}

// The tail of a line is its status and what there are many of. It is to have
// roomy letters, if shortening the name is enough for that; with less than
// cramped, it gets a line of its own.
const roomy, cramped = 28, 16

// printTable aligns the rows, the first of which is the heading. Columns are
// aligned to the right, as numbers are, but for a name in the first column
// and an owner in the third. In a terminal, which is so wide, name, owner and
// tail are shortened, and a column that says nothing, all 0 or all -, goes.
// In a pipe, where width is 0, everything is whole.
func printTable(w io.Writer, rows []row, width int) {
	widths := make([]int, len(rows[0].cells))
	for i := range widths {
		says := width == 0 || len(rows) == 1
		for n, r := range rows {
			widths[i] = max(widths[i], letters(r.cells[i]))
			is0 := r.cells[i] == "0" && rows[0].cells[i] != "id"
			says = says || n > 0 && !is0 && r.cells[i] != "-"
		}
		if !says {
			widths[i] = -1 // it takes no room, not even a space
		}
	}
	room, own := 1<<30, false
	if width > 0 {
		widths[2] = min(widths[2], 8)
		room = width - len(rows[0].mark) - 1 // a space before the tail
		for _, n := range widths[1:] {
			room -= n + 1
		}
		widths[0] = min(widths[0], max(10, room-1-roomy))
		room -= widths[0] + 1
		if own = room < cramped; own {
			room = width - 4
		}
	}
	for _, r := range rows {
		var cells []string
		for i, cell := range r.cells {
			switch n := widths[i]; {
			case n < 0:
			case i == 0:
				cells = append(cells, pad(cutMiddle(cell, n), n))
			case i == 2:
				cells = append(cells, pad(cut(cell, n), n))
			default:
				cells = append(cells, pad("", n-letters(cell))+cell)
			}
		}
		tail := cut(r.status, room)
		if tail != "" && len(r.many) > 0 {
			tail += "  "
		}
		tail += some(r.many, room-letters(tail))
		line := strings.TrimRight(r.mark+strings.Join(cells, " "), " ")
		if own && tail != "" {
			line += "\n    " + tail
		} else if tail != "" {
			line = pad(line, letters(r.mark)+sum(widths)+len(widths)+1) + tail
		}
		io.WriteString(w, line+"\n")
	}
}

func letters(text string) int { return utf8.RuneCountInString(text) }

func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-letters(text)))
}

func sum(all []int) (n int) {
	for _, each := range all {
		n += each
	}
	return n
}

// cutMiddle shortens a name to n letters: many differ only at their ends.
func cutMiddle(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-1-n/2):])
}

// cut shortens a text to n letters.
func cut(text string, n int) string {
	if letters(text) <= n {
		return text
	}
	return string([]rune(text)[:max(0, n-1)]) + "…"
}

// some puts as many into n letters as fit, and says how many do not. A ? at the
// end, for those that are not known, is none of them.
func some(all []string, n int) string {
	if last := len(all) - 1; last > 0 && all[last] == "?" {
		return some(all[:last], n-len(", ?")) + ", ?"
	}
	for k := len(all); k > 1; k-- {
		text := strings.Join(all[:k], ", ")
		if k < len(all) {
			text += ", +" + strconv.Itoa(len(all)-k)
		}
		if letters(text) <= n {
			return text
		}
	}
	if len(all) < 2 {
		return cut(strings.Join(all, ""), n)
	}
	more := ", +" + strconv.Itoa(len(all)-1)
	if n <= len(more)+1 { // not even one of them
		return "+" + strconv.Itoa(len(all))
	}
	return cut(all[0], n-len(more)) + more
}

// screen is the size of the terminal that standard output is; 0 if it is
// none, but a pipe or a file.
func screen() (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
