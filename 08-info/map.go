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
	frame   string // what is behind the address, see behind
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
	memory := "?" // if the kernel does not tell
	if o.Resident != nil {
		memory = fmt.Sprint(*o.Resident / pageSize)
	}
	title := o.String()
	if o.Kind == kindSegment { // a POSIX object is in no IPC namespace
		title = fmt.Sprintf("%s, %s, in IPC namespace %d", o.title(), title,
			s.namespace)
	}
	fmt.Fprintf(&text, "%s\n%d bytes, pages: %d, in memory: %s\n", title,
		o.Bytes, total, memory)
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
		} else if ctx.Err() != nil { // there may be very many pages
			return context.Cause(ctx)
		}
		views, err := o.views(n * pageSize)
		unread = cmp.Or(err, unread)
		hidden = hidden || slices.ContainsFunc(views, func(v view) bool {
			return strings.HasPrefix(v.frame, "inode")
		})
		drawPage(&text, fmt.Sprintf("page %-5d ", n), views)
	}
	if total > shown {
		fmt.Fprintf(&text, "… pages not shown: %d; see -pages\n", total-shown)
	}
	stdout.Write(text.Bytes())
	switch {
	case !isMapped && o.Complete:
		log.Printf("nobody has it mapped")
	case !o.Complete:
		log.Printf("there may be more: %s", s.unseen())
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

// views are the mappings of the page at this offset, those of the same frame
// one after the other. An error says why it is not known what is behind one.
func (o *object) views(offset uint64) (all []view, unread error) {
	for _, p := range o.Processes {
		for _, at := range p.spans {
			if offset < at.offset || offset >= at.offset+at.end-at.start {
				continue
			}
			address := at.start + offset - at.offset
			frame, err := behind(p.Pid, address, o.backing.inode)
			unread = cmp.Or(err, unread)
			all = append(all, view{p, address, at.perms, frame})
		}
	}
	slices.SortStableFunc(all, func(a, b view) int {
		return strings.Compare(a.frame, b.frame)
	})
	return all, unread
}

// drawPage draws one page: to the left the processes that have it mapped, to
// the right the frame behind it. A process that has a private copy has a frame
// of its own.
func drawPage(w io.Writer, label string, views []view) {
	for i, v := range views {
		isFirst := i == 0 || views[i-1].frame != v.frame
		isLast := i == len(views)-1 || views[i+1].frame != v.frame
		arrow := " --+"
		switch {
		case v.frame == "":
			arrow = "   no frame here"
		case isFirst && isLast:
			arrow = " -----> " + v.frame
		case isFirst:
			arrow = " --+--> " + v.frame
		}
		who := cut(fmt.Sprintf("%d %s", v.Pid, v.Command), 20)
		fmt.Fprintf(w, "%s%-20s %#-14x %.2s%s\n", label, who, v.address,
			v.perms, arrow)
		label = strings.Repeat(" ", len(label)) // for the first line only
	}
}

// behind reads which frame of physical memory is behind an address of a
// process. There is none if the process has not touched the page, even if
// another has, or has given it back by madvise(2).
//
// /proc/PID/pagemap has 8 bytes for each page: the frame in bits 0 to 54 where
// this process has CAP_SYS_ADMIN, else zeros; bit 62 for swapped out, bit 63
// for present. Where there are zeros, the inode takes the place of the frame.
func behind(pid int, address, fileInode uint64) (frame string, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return "?", err
	}
	defer f.Close()
	raw := make([]byte, 8)
	at := int64(address / uint64(os.Getpagesize()) * 8)
	if _, err := f.ReadAt(raw, at); err != nil {
		return "?", fmt.Errorf("read %s: %w", f.Name(), err)
	}
	bits := binary.NativeEndian.Uint64(raw)
	frameNumber := bits & (1<<55 - 1)
	switch {
	case bits>>62&1 == 1:
		return "swapped out", nil
	case bits>>63 == 0:
		return "", nil
	case frameNumber == 0:
		return fmt.Sprintf("inode %d", fileInode), nil
	}
	return fmt.Sprintf("frame %#x", frameNumber), nil
}
