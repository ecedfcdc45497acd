//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	older  = 10 * time.Minute
	really bool
	force  bool
	reapOf = uint32(os.Geteuid())
)

func reapFlags() {
	anyFlags()
	flag.DurationVar(&older, "older", older,
		"`time` since the last attach, detach or change, as 90s, 10m or 24h")
	flag.BoolVar(&really, "yes", false, "remove them, not only list them")
	flag.Func("user", "whose leftovers, for root: a `user`, name or number",
		func(s string) error {
			id, err := userID(s)
			if err == nil {
				reapOf = *id
			}
			return err
		})
	numberFlag(&given.semKey, "semkey", "`key` of a semaphore set: only "+
		"that, for others are never taken", 1)
	numberFlag(&given.semID, "semid", "`id` of a semaphore set: only that", 0)
	flag.BoolVar(&force, "force", false, "remove what you name although a "+
		"process has used it that still runs, or may run")
}

// reap lists what was left by processes that have ended, and removes it if it
// is told to. An unattached object may be meant to be there, so it takes none
// of other users, none that was used lately, and looks again just before it
// removes one.
func reap(_ context.Context, stdout io.Writer) error {
	if given.count > 1 || force && given.count == 0 {
		wantOne()
	} else if older < 0 {
		return errors.New("-older is out of range")
	}
	uid := reapOf
	if me := os.Geteuid(); uint32(me) != uid && me != 0 {
		return fmt.Errorf("leftovers of %s: %w\nonly root removes those of "+
			"others", userName(uid), unix.EPERM)
	}
	var leftovers []*object
	var err error
	switch {
	case given.semKey != 0 || given.semID >= 0:
		return reapSet(stdout, uid)
	case given.count == 1:
		leftovers, err = namedLeftover(uid)
	default:
		leftovers, err = allLeftovers(uid)
	}
	if err != nil || len(leftovers) == 0 {
		return err
	}
	var rows []row
	for _, o := range leftovers {
		rows = append(rows, o.row(time.Now()))
	}
	err = show(stdout, objectHeading, rows...)
	if err != nil || !really {
		return err
	}
	for _, o := range leftovers {
		failed := o.remove(stdout, uid)
		if failed != nil && err != nil {
			log.Print(err) // main prints only the last one
		}
		err = cmp.Or(failed, err)
	}
	return err
}

// namedLeftover returns the object that -key, -id or -name names. If it is no
// leftover, that is an error.
func namedLeftover(uid uint32) ([]*object, error) {
	o, err := findAny()
	if err != nil {
		return nil, err
	}
	s, err := scan()
	if err != nil {
		return nil, err
	}
	o.fillIn(s)
	if why := o.keep(uid); why != "" {
		return nil, kept(o, why)
	}
	return []*object{o}, nil
}

// allLeftovers returns all segments that are leftovers of a user, and says
// what else there is.
func allLeftovers(uid uint32) (leftovers []*object, err error) {
	s, err := take()
	if err != nil {
		return nil, err
	}
	var others, posix []string // users who have some; names
	young, unknown := 0, 0
	for _, o := range s.Objects {
		switch {
		case o.inUse() || o.Kind != kindSegment && o.path == "":
			// A process has it, or it has been removed already.
		case *o.UID != uid:
			if o.Kind == kindSegment && o.keep(*o.UID) == "" {
				others = append(others, "-user "+userName(*o.UID))
			}
		case o.Kind != kindSegment:
			posix = append(posix, o.title())
		case tooYoung(o.used()) != "":
			young++
		default:
			switch why := o.keep(uid); why {
			case "":
				leftovers = append(leftovers, o)
			case outside:
				unknown++
			default:
				kept(o, why)
			}
		}
	}
	if young > 0 {
		log.Printf("segments that nobody has attached, but that were used in "+
			"the last %v: %d; see -older", older, young)
	}
	if unknown > 0 {
		log.Printf("segments of processes in another PID namespace, which "+
			"may run: %d; -force removes one that is named", unknown)
	}
	if posix != nil {
		log.Printf("POSIX objects, taken only by -name: %s", some(posix, 60))
	}
	if slices.Sort(others); len(others) > 0 {
		log.Printf("leftovers of others, for root to remove: %s",
			strings.Join(slices.Compact(others), ", "))
	}
	if len(leftovers) == 0 {
		log.Printf("no leftovers of %s, unused for %v", userName(uid), older)
	}
	return leftovers, nil
}

// kept says why something stays. If it was named, that is a failure, unless it
// has gone.
func kept(what fmt.Stringer, why string) error {
	if why == hasGone {
		log.Printf("%v: %s", what, why)
		return nil
	}
	err := fmt.Errorf("%v: kept: %s", what, why)
	if given.count == 1 {
		return err
	}
	log.Print(err)
	return nil
}

// show prints the leftovers. If nobody has seen them, none is removed.
func show(stdout io.Writer, heading row, rows ...row) error {
	columns, _ := screen()
	var text bytes.Buffer
	printTable(&text, append([]row{heading}, rows...), columns)
	if _, err := stdout.Write(text.Bytes()); err != nil {
		return fmt.Errorf("nothing is removed: %v", err)
	}
	if !really {
		log.Printf("an object that nobody uses may be meant to be there; the " +
			"same with -yes removes these")
	}
	return nil
}

// reapSet is reap for the semaphore set that -semkey or -semid names.
func reapSet(stdout io.Writer, uid uint32) error {
	s, err := findSet()
	if err != nil {
		return err
	}
	if why := s.keep(uid); why != "" {
		return kept(s, why)
	}
	err = show(stdout, setHeading, s.row(time.Now()))
	if err != nil || !really {
		return err
	}
	// Some time has passed since it was shown: look again.
	if why := s.keep(uid); why != "" {
		return kept(s, why)
	}
	if err := s.remove(); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%v: removed\n", s)
	return nil
}

// findSet returns the set that -semkey or -semid names.
func findSet() (*semSet, error) {
	sets, err := semaphoreSets()
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if s.ID == given.semID ||
			given.semKey != 0 && int(s.Key) == given.semKey {
			return s, nil
		}
	}
	what := fmt.Sprintf("with key %#x", uint32(given.semKey))
	if given.semID >= 0 {
		what = strconv.Itoa(given.semID)
	}
	return nil, fmt.Errorf("there is no semaphore set %s\n"+
		"%s list shows those that there are", what, program)
}
