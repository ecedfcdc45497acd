//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	older  = 10 * time.Minute
	really bool
	force  bool
	reapOf *uint32 // the user whose leftovers to find; nil: this user

	semKey int
	semID  = -1
)

func reapFlags(flags *flag.FlagSet) {
	anyFlags(flags)
	flags.DurationVar(&older, "older", older,
		"`time` since the last attach, detach or change: 90s, 10m, 24h")
	flags.BoolVar(&really, "yes", false, "remove them, not only list them")
	flags.Func("user", "whose leftovers, for root: a `user`, name or number",
		func(s string) (err error) {
			reapOf, err = userID(s)
			return err
		})
	numberFlag(flags, &semKey, "semkey", "`key` of a semaphore set: only "+
		"that, for others are never taken", 1)
	flags.BoolVar(&force, "force", false, "remove also what a process has "+
		"used that still runs, or may run")
	numberFlag(flags, &semID, "semid", "`id` of a semaphore set: only that", 0)
}

// A leftover is a segment, a POSIX object or a semaphore set.
type leftover interface {
	fmt.Stringer
	row(now time.Time) row
	again() (leftover, error) // looks once more; nil if it has gone
	keep(uid uint32) string   // why it must be kept, or ""
	remove() error
}

// reap lists what ended processes have left, and removes it with -yes. Somebody
// may want an unattached object to stay. So reap takes none of another user,
// and none that was used a short time ago. It looks again just before it
// removes an object.
func reap(_ context.Context, stdout io.Writer) error {
	if older < 0 {
		return errors.New("-older is out of range")
	}
	uid := uint32(os.Geteuid())
	if reapOf != nil && *reapOf != uid && uid != 0 {
		return fmt.Errorf("leftovers of %s: %w\nonly root removes those of "+
			"others", userName(*reapOf), unix.EPERM)
	} else if reapOf != nil {
		uid = *reapOf
	}
	all, heading, err := candidates()
	if err != nil {
		return err
	}
	now := time.Now()
	table := []row{heading}
	var leftovers []leftover
	var others []string // users who have leftovers, for root
	for _, l := range all {
		why := l.keep(uid)
		if why == "" {
			table = append(table, l.row(now))
			leftovers = append(leftovers, l)
		} else if o, _ := l.(*object); named() || *o.UID == uid &&
			tooYoung(o.used()) == "" && len(o.Processes) == 0 {
			log.Printf("%v: kept: %s", l, why)
		} else if uid == 0 && o.keep(*o.UID) == "" {
			others = append(others, userName(*o.UID))
		}
	}
	if slices.Sort(others); len(others) > 0 {
		log.Printf("leftovers of others: -user %s", strings.Join(
			slices.Compact(others), ", "))
	}
	if len(leftovers) == 0 {
		return kept("no leftovers of %s, unused for %v", userName(uid), older)
	}
	columns, _ := screen()
	var text bytes.Buffer
	printTable(&text, table, columns)
	if _, err := stdout.Write(text.Bytes()); err != nil {
		return err // nobody has seen the list, so remove nothing
	}
	if !really {
		log.Printf("an object that nobody uses may be meant to be there; the " +
			"same with -yes removes these")
		return nil
	}
	var failed error
	for _, l := range leftovers {
		failed = errors.Join(failed, removeLeftover(stdout, l, uid))
	}
	return failed
}

// removeLeftover looks at a leftover again, because some time has passed since
// it was listed. Then it removes it.
func removeLeftover(stdout io.Writer, l leftover, uid uint32) error {
	now, err := l.again()
	if err != nil {
		return err
	}
	why := hasGone
	if now != nil {
		why = now.keep(uid)
	}
	if why == hasGone {
		log.Printf("%v: has gone", l)
		return nil
	} else if why != "" {
		return kept("%v: kept: %s", l, why)
	}
	if err := now.remove(); err != nil {
		return err
	}
	if now, err := l.again(); err == nil && now != nil {
		// Somebody has attached it just before. Nothing is lost: the segment
		// lives until the last detach, as after any removal.
		log.Printf("%v: somebody has just attached it: it is marked", l)
		return nil
	}
	fmt.Fprintf(stdout, "%v: removed\n", l)
	return nil
}

// kept reports that something stays. If a flag named it, that is an error.
func kept(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if named() {
		return err
	}
	log.Print(err)
	return nil
}

// named tells whether -key or another flag names one object or set.
func named() bool {
	return key != 0 || id >= 0 || name != "" || semKey != 0 || semID >= 0
}

// candidates returns the object or the set that a flag names, or all objects.
func candidates() (all []leftover, heading row, err error) {
	if semKey != 0 || semID >= 0 {
		if key != 0 || id >= 0 || name != "" || semKey != 0 && semID >= 0 {
			wrongUsage("want one of -key, -id, -name, -semkey and -semid")
		}
		sets, err := semaphoreSets()
		if err != nil {
			return nil, row{}, err
		}
		for _, s := range sets {
			if s.ID == semID || semKey != 0 && int(s.Key) == semKey {
				return []leftover{s}, setHeading, nil
			}
		}
		what := fmt.Sprintf("key %#x", uint32(semKey))
		if semID >= 0 {
			what = fmt.Sprintf("set %d", semID)
		}
		return nil, row{}, fmt.Errorf("semget %s: no such semaphore set\n"+
			"08-info list shows those that there are", what)
	}
	s, err := take()
	if err != nil {
		return nil, row{}, err
	}
	var only *object
	if named() {
		if only, err = findAny(); err != nil {
			return nil, row{}, err
		}
	}
	for _, o := range s.Objects {
		here := o.Kind == kindSegment || o.path != "" // not removed already
		if here && (only == nil ||
			o.backing == only.backing && o.path == only.path) {
			all = append(all, o)
		}
	}
	return all, objectHeading, nil
}
