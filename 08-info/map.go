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

func mapFlags() {
	anyFlags()
	flag.UintVar(&shownPages, "pages", 2, "`number` of pages to draw")
}

// A view is one process's mapping of one page.
type view struct {
	process
	address uint64
	perms   string
	behind  page
	err     error // why it is not known what is behind the address
}

// drawMap draws, page by page, at which addresses the processes have an object,
// and the frame of physical memory behind these addresses.
func drawMap(ctx context.Context, stdout io.Writer) error {
	o, err := findAny()
	if err != nil {
		return err
	}
	s, err := scan()
	if err != nil {
		return err
	}
	if !o.fillIn(s) {
		return fmt.Errorf("%v: it has gone meanwhile", o)
	}
	pageSize := uint64(os.Getpagesize())
	total := (o.Bytes + pageSize - 1) / pageSize
	var text bytes.Buffer
	memory := "?" // as far as the kernel tells
	if o.Resident != nil {
		memory = fmt.Sprint(*o.Resident / pageSize)
	}
	fmt.Fprintf(&text, "%s, %v, in IPC namespace %d\n%d bytes, pages: %d, "+
		"in memory: %s\n", o.title(), o, inode(s.namespace), o.Bytes, total,
		memory)
	hidden, unread := false, error(nil)
	shown := min(total, uint64(shownPages))
	isMapped := slices.ContainsFunc(o.Processes, func(p process) bool {
		return len(p.spans) > 0
	})
	if isMapped {
		fmt.Fprintf(&text, "\n%-11s%-20s %-23sphysical memory\n", "",
			"process", "address")
	} else {
		shown, total = 0, 0
	}
	for n := range shown {
		if _, err := text.WriteTo(stdout); err != nil {
			return err
		} else if ctx.Err() != nil { // there may be very many
			return context.Cause(ctx)
		}
		views := o.views(n * pageSize)
		for _, v := range views {
			unread = cmp.Or(v.err, unread)
			hidden = hidden || v.behind.present && v.behind.frame == 0
		}
		drawPage(&text, fmt.Sprintf("page %-5d ", n), views, o)
	}
	if total > shown {
		fmt.Fprintf(&text, "… pages not shown: %d\n", total-shown)
	}
	stdout.Write(text.Bytes())
	switch {
	case !isMapped && o.Complete:
		log.Printf("nobody has it mapped")
	case !o.Complete:
		log.Printf("there may be more: %s", s.unseen())
	}
	if hidden {
		log.Print("only CAP_SYS_ADMIN may see frames: the inode, which is " +
			"also the same for all, stands in their place")
	}
	if unread != nil { // no right to it, or the kernel has no such file
		log.Printf("?: %v", unread)
	}
	return nil
}

// views are the mappings of the page at this offset.
func (o *object) views(offset uint64) (all []view) {
	for _, p := range o.Processes {
		for _, at := range p.spans {
			if offset < at.offset || offset >= at.offset+at.end-at.start {
				continue
			}
			address := at.start + offset - at.offset
			found, err := behind(p.Pid, address)
			all = append(all, view{p, address, at.perms, found, err})
		}
	}
	return all
}

// drawPage draws one page: to the left the processes that have it mapped, to
// the right the frame behind it. A process that has a private copy has a frame
// of its own.
func drawPage(w io.Writer, label string, views []view, o *object) {
	frames := map[string][]view{}
	var order []string
	for _, v := range views {
		frame := v.frame(o)
		if frames[frame] == nil {
			order = append(order, frame)
		}
		frames[frame] = append(frames[frame], v)
	}
	for _, frame := range order {
		for i, v := range frames[frame] {
			arrow := " --+"
			switch {
			case frame == "":
				arrow = "   no frame here"
			case len(frames[frame]) == 1:
				arrow = " -----> " + frame
			case i == 0:
				arrow = " --+--> " + frame
			}
			who := fmt.Sprintf("%d %s", v.Pid, v.Command)
			fmt.Fprintf(w, "%s%-20s %#-14x %.2s%s\n", label, cut(who, 20),
				v.address, v.perms, arrow)
			label = strings.Repeat(" ", len(label)) // for the first line only
		}
	}
}

// frame is what a picture has for the frame behind a view, nothing if there is
// none: the process has not touched the page, or has given it back by
// madvise(2).
func (v view) frame(o *object) string {
	switch {
	case v.err != nil:
		return "?"
	case v.behind.swapped:
		return "swapped out"
	case !v.behind.present:
		return ""
	case v.behind.frame == 0:
		return fmt.Sprintf("inode %d", o.backing.inode)
	}
	return fmt.Sprintf("frame %#x", v.behind.frame)
}

// A page is what stands behind one page of a process's memory.
type page struct {
	present, swapped bool
	frame            uint64 // its number in physical memory; 0 if not told
}

// behind reads what stands behind an address of a process. /proc/PID/pagemap
// has 8 bytes for each page: the frame in bits 0 to 54, where this process has
// CAP_SYS_ADMIN, else zeros; bit 62 for swapped out, bit 63 for present. A page
// that the process never touched is not present, even if another touched it.
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
	bits := binary.NativeEndian.Uint64(raw)
	p := page{present: bits>>63 == 1, swapped: bits>>62&1 == 1}
	if p.present {
		p.frame = bits & (1<<55 - 1)
	}
	return p, nil
}
