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

// A row is a line of a table: cells in columns, then a status, then a list.
type row struct {
	cells  []string
	status string
	many   []string // the list: processes, say
	mark   string   // for -watch: printed in front of the line
}

// The tail of a line is its status and its list. The name is shortened until
// the tail has roomy letters. If the tail still has fewer than cramped, it gets
// a line of its own.
const roomy, cramped = 28, 16

// printTable prints the rows as a table. The first row is the heading. Columns
// are aligned to the right, except for the name in the first column and the
// owner in the third. Width is that of the terminal. Name, owner and tail are
// shortened to fit, and a column that is all 0 or all - is left out. If width
// is 0, as in a pipe, nothing is shortened or left out.
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

// cutMiddle shortens a name to n letters, in the middle: many names differ only
// at their ends.
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

// some puts as many words of a list into n letters as fit, and says how many do
// not fit. A ? at the end stands for those that are not known. It is not
// counted.
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

// screen returns the size of the terminal. It is 0 if standard output is a pipe
// or a file.
func screen() (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
