//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
)

var shownPages uint

func mapFlags(flags *flag.FlagSet) {
	anyFlags(flags)
	flags.UintVar(&shownPages, "pages", 2, "`number` of pages to draw")
}

// A view is one process's mapping of one page.
type view struct {
	process
	address uint64
	perms   string
	page    page
	err     error // why the page is not known
}

// drawMap draws an object page by page: at which virtual address each process
// has the page, and the frame of physical memory behind all these addresses.
func drawMap(ctx context.Context, stdout io.Writer) error {
	o, err := findAny()
	if err != nil {
		return err
	}
	s, err := scan()
	if err != nil {
		return err
	}
	if !o.complete(s) {
		return fmt.Errorf("%v: it has gone meanwhile", o)
	}
	size := uint64(os.Getpagesize())
	total := (o.Bytes + size - 1) / size
	var text bytes.Buffer
	memory := "?" // if the kernel does not tell
	if o.Resident != nil {
		memory = fmt.Sprint(*o.Resident / size)
	}
	fmt.Fprintf(&text, "%s, %v, in IPC namespace %d\n%d bytes, pages: %d, "+
		"in memory: %s\n", o.title(), o, inode(s.namespace), o.Bytes, total,
		memory)
	hidden, unread := false, error(nil)
	shown := min(total, uint64(shownPages))
	mapped := slices.ContainsFunc(o.Processes, func(p process) bool {
		return len(p.spans) > 0
	})
	label := 7 // letters: "page 0 " has so many, "page 10 " more
	if !mapped {
		shown, total = 0, 0
	} else {
		label = max(label, len(fmt.Sprintf("page %d ", shown-1)))
		fmt.Fprintf(&text, "\n%s%-*s %-24s%s\n", pad("", label), 31-label,
			"process", "address", "physical memory")
	}
	for n := range shown {
		if _, err := text.WriteTo(stdout); err != nil {
			return err
		} else if ctx.Err() != nil { // there may be very many pages
			return context.Cause(ctx)
		}
		views := o.views(n * size)
		for _, v := range views {
			unread = cmp.Or(v.err, unread)
		}
		name := pad(fmt.Sprintf("page %d", n), label)
		hidden = drawPage(&text, name, views, o) || hidden
	}
	if total > shown {
		fmt.Fprintf(&text, "… pages not shown: %d\n", total-shown)
	}
	stdout.Write(text.Bytes())
	switch {
	case !mapped && o.Complete:
		log.Printf("nobody has it mapped")
	case !o.Complete:
		log.Printf("%s", hiddenFrom(s.hidden))
	}
	if hidden {
		log.Print("only a process with CAP_SYS_ADMIN can see frames: this " +
			"shows the inode instead, which is also the same for all")
	}
	if unread != nil { // no permission, or the kernel has no such file
		log.Printf("?: %v", unread)
	}
	return nil
}

// views returns the mappings of the page at this offset.
func (o *object) views(offset uint64) (all []view) {
	for _, p := range o.Processes {
		for _, at := range p.spans {
			if offset < at.offset || offset >= at.offset+at.end-at.start {
				continue
			}
			address := at.start + offset - at.offset
			page, err := behind(p.Pid, address)
			all = append(all, view{p, address, at.perms, page, err})
		}
	}
	return all
}

// drawPage draws one page: the processes to the left, the frame to the right.
// It returns whether the kernel hides the frame from us. A process that has a
// frame of its own, a private copy, gets a box of its own.
func drawPage(w io.Writer, name string, views []view, o *object) (
	hidden bool) {
	frames := map[string][]view{}
	var order []string
	for _, v := range views {
		frame := fmt.Sprintf("frame %#x", v.page.frame)
		switch {
		case v.err != nil:
			frame = "?"
		case v.page.swapped:
			frame = "swapped out"
		case !v.page.present:
			frame = ""
		case v.page.frame == 0:
			frame = fmt.Sprintf("inode %d", o.backing.inode)
			hidden = true
		}
		if frames[frame] == nil {
			order = append(order, frame)
		}
		frames[frame] = append(frames[frame], v)
	}
	for _, frame := range order {
		drawFrame(w, name, frame, frames[frame])
	}
	return hidden
}

// drawFrame draws the processes that have the same frame, or none.
func drawFrame(w io.Writer, page, frame string, views []view) {
	edge := "+--------------------+"
	box := []string{edge, fmt.Sprintf("| %-18s |", frame), edge}
	lines, first := max(len(views), len(box)), 0
	if frame == "" { // not touched yet, or given back by madvise(2)
		box, lines = nil, len(views)
	} else if len(views) == 1 {
		first = 1 // the line in the middle of the box
	}
	for i := range lines {
		text := fmt.Sprintf("%49s", "")
		if n := i - first; n >= 0 && n < len(views) {
			if n > 0 {
				page = pad("", len(page))
			}
			v := views[n]
			who := cut(fmt.Sprintf("%d %s", v.Pid, v.Command), 31-len(page))
			text = fmt.Sprintf("%s%-*s %#-14x %.2s", page, 31-len(page), who,
				v.address, v.perms)
		}
		switch {
		case box == nil:
			text += "   no frame here"
		case len(views) == 1 && i == 1:
			text += " ----->"
		case len(views) == 1 || i >= len(views):
			text += "       "
		case i == 1:
			text += " --+-->"
		default:
			text += " --+   "
		}
		if i < len(box) {
			text += box[i]
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
}

// A page is what stands behind one page of a process's memory.
type page struct {
	present, swapped bool
	frame            uint64 // its number in physical memory; 0 if not told
}

// behind reads what stands behind an address of a process. /proc/PID/pagemap
// has 8 bytes for each page. Bits 0 to 54 are the frame if this process has
// CAP_SYS_ADMIN, and otherwise 0. Bit 62 means swapped out, bit 63 present. A
// page that the process never touched is not present, even if another process
// has touched it.
func behind(pid int, address uint64) (page, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return page{}, err
	}
	defer f.Close()
	raw := make([]byte, 8)
	at := int64(address / uint64(os.Getpagesize()) * 8)
	if _, err := f.ReadAt(raw, at); err != nil {
		return page{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	entry := binary.NativeEndian.Uint64(raw)
	p := page{present: entry>>63 == 1, swapped: entry>>62&1 == 1}
	if p.present {
		p.frame = entry & (1<<55 - 1)
	}
	return p, nil
}
