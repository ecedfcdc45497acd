//go:build linux

package shm_test

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A pair is two programs that belong together, or one alone. Both end with 0
// unless something is done to them.
type pair struct {
	name string
	a, b string // commands; b is "" if there is one alone

	together bool             // they start together; else b waits for a first
	stdin    string           // what a reads; if empty, input ends when b has ended
	enter    string           // input of both ends when both have printed this
	slow     string           // flags for a, so that a pause of 3 s is no miss
	cure     string           // for those who wait for a dead one in vain
	after    []string         // removes what is to stay
	check    func(*run) error // what b, or one alone, has printed
}

func prints(text string) func(*run) error {
	return func(r *run) error {
		if !strings.Contains(r.out.String(), text) {
			return fmt.Errorf("did not print %q: %v", text, r)
		}
		return nil
	}
}

var someText = strings.Repeat("To be copied, byte for byte.\n", 100)

// pairs are all programs, in the pairs in which they run.
func pairs() []pair {
	all := []pair{{
		name: "01-writer-reader", check: prints("Reading Process: Complete"),
		a: "01/writer -key $KEY -n 2 -interval 300ms", b: "01/reader -key $KEY",
		slow: "-interval 4s",
	}, {
		name: "02-main-reader", check: prints("Hello from shared memory!"),
		a: "02/02-posix-shm -name /$NAME", b: "02/reader -name /$NAME",
	}, {
		name: "02-large", check: prints("Press Enter"), together: true, enter: "Press Enter",
		a: "02/large -name /$NAME", b: "02/large -name /$NAME",
	}, {
		name: "02-ring", check: prints("Cache line size"),
		a: "02/producer -name /$NAME -n 20000", b: "02/consumer -name /$NAME -n 20000",
	}, {
		name: "03-producer-consumer", check: prints("Consumer: Finished and cleaned up"),
		a: "03/producer -key $KEY -n 2 -interval 300ms", b: "03/consumer -key $KEY -n 2",
		slow: "-interval 4s",
	}, {
		name: "03-writer-reader", stdin: someText,
		a: "03/writer -key $KEY -semkey $KEY2", b: "03/reader -key $KEY -semkey $KEY2",
		check: func(r *run) error {
			if r.out.String() != someText {
				return fmt.Errorf("differs from what was sent: %v", r)
			}
			return nil
		},
	}}
	for _, sync := range []string{"sysv", "posix", "atomic", "none"} {
		command := "04/04-semaphore-counter -sync " + sync +
			" -key $KEY -semkey $KEY2 -name /$NAME -work 20ms"
		p := pair{name: "04-" + sync, a: command, b: command, together: true,
			check: prints("Updated count"), after: []string{command + " -rm"}}
		if sync == "posix" {
			p.cure = command + " -rm" // it does not know its holder
		}
		all = append(all, p)
	}
	for _, sync := range []string{"normal", "robust"} {
		all = append(all, pair{name: "05-" + sync,
			a:     "05/05-pthread-style-mutex -key $KEY -n 30 -sync " + sync,
			check: prints("Final counter = 60 (expected 60)")})
	}
	return append(all, pair{
		name: "06-offsets", check: prints("value = 30"), a: "06/06-offsets -key $KEY",
	}, pair{
		name: "07-shm-lock", check: prints("Segment unlocked"), a: "07/07-shm-lock -key $KEY",
	}, pair{
		name: "08-create", check: prints("Segment size: 4096 bytes"),
		a:     "08/08-info create -key $KEY -size 4096",
		after: []string{"08/08-info rm -key $KEY"},
	}, pair{
		name: "08-rm", check: prints("removed"), a: "08/08-info rm -key $KEY",
	})
}

// How long may take what takes 2 s, or a whole run, on a machine that is busy.
// A broken program, which is to fail, is not waited for as long.
var slack, patience = 6 * time.Second, 15 * time.Second

// A point is where something is done to one of a pair: at its n-th call of a
// name, or from its start on.
type point struct {
	side   int // 0 is a, 1 is b, 2 is both
	name   string
	n      int
	fate   fate
	change func(*exec.Cmd)
}

func (p point) String() string {
	what := "delayed"
	switch {
	case p.change != nil:
		return fmt.Sprintf("%c, %s", 'a'+p.side, p.name)
	case p.fate.kill:
		what = "killed"
	case p.fate.stop > 0:
		what = "stopped"
	case p.fate.err != 0:
		what = unix.ErrnoName(p.fate.err)
	}
	return fmt.Sprintf("%c, %s %d: %s", 'a'+p.side, p.name, p.n, what)
}

// trial is a pair that runs, with something done at a point.
type trial struct {
	pair
	runs [2]*run

	mu      sync.Mutex
	counts  map[string]int // calls of the side where the point is, by name
	reached bool
	removes bool // ... by a call that removes something
}

// begin starts a pair; at nil, nothing is done.
func (p pair) begin(place *place, at *point, flags string) *trial {
	t := &trial{pair: p, counts: map[string]int{}}
	options := func(side int) (w with) {
		if side == 0 && p.stdin != "" {
			w.stdin = &p.stdin
		}
		if at != nil && at.change != nil {
			if at.side == side || at.side == 2 {
				w.change = at.change
			}
		} else if at != nil && at.side == side {
			w.oracle = func(c call) (f fate) {
				t.mu.Lock()
				defer t.mu.Unlock()
				if t.counts[c.name]++; c.name == at.name && t.counts[c.name] == at.n {
					t.reached, t.removes = true, c.removes()
					return at.fate
				}
				return f
			}
		}
		return w
	}
	if p.name == "08-rm" { // something to remove
		r := place.start(with{}, "08/08-info create -key $KEY -size 4096")
		r.within(slack)
	}
	if p.b != "" && !p.together {
		t.runs[1] = place.start(options(1), p.b)
		t.runs[1].prints("waiting for")
	}
	t.runs[0] = place.start(options(0), p.a+" "+flags)
	if p.b != "" && p.together {
		t.runs[1] = place.start(options(1), p.b)
	}
	go t.endInput()
	return t
}

// endInput ends the input of the programs when they have done what they do
// before that.
func (t *trial) endInput() {
	for side, r := range t.runs {
		switch other := t.runs[1-side]; {
		case r == nil || r.keyboard == nil:
		case t.enter != "":
			go func() {
				defer r.keyboard.Close()
				if r.prints(t.enter) {
					other.prints(t.enter)
				}
			}()
		case other == nil:
			r.keyboard.Close()
		default:
			go func() {
				<-other.ended
				r.keyboard.Close()
			}()
		}
	}
}

func (t *trial) both() (all []*run) {
	for _, r := range t.runs {
		if r != nil {
			all = append(all, r)
		}
	}
	return all
}

// asUsual checks that both end with 0, and have done what they are for.
func (t *trial) asUsual(within time.Duration) error {
	for _, r := range t.both() {
		r.within(within)
		if err := r.is("0"); err != nil {
			return fmt.Errorf("%w\nof %v", err, t.both())
		}
	}
	all := t.both()
	return t.check(all[len(all)-1])
}

func (t *trial) end() {
	for _, r := range t.both() {
		r.kill()
	}
}

// afterwards removes what is to stay, and looks for what is not.
func (p pair) afterwards(place *place) error {
	for _, command := range p.after {
		r := place.start(with{}, command)
		r.within(slack)
		r.is("0") // nothing to remove is no error of 04's, one of 08's
	}
	return place.left()
}

// next runs the pair once more, with nothing done.
func (p pair) next(place *place) error {
	t := p.begin(place, nil, "")
	defer t.end()
	if err := t.asUsual(patience); err != nil {
		return fmt.Errorf("the next run: %w", err)
	}
	if err := p.afterwards(place); err != nil {
		return fmt.Errorf("after the next run: %w", err)
	}
	return nil
}

// suffer runs the pair with something done at a point, which both must cope
// with, and then once more.
func (p pair) suffer(place *place, at point) (err error) {
	flags := ""
	if at.fate.delay+at.fate.stop > 0 {
		flags = p.slow
	}
	t := p.begin(place, &at, flags)
	defer t.end()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s at %v: %w", p.name, at, err)
			place.left()
		}
	}()
	if at.fate.delay+at.fate.stop > 0 || at.fate.err == unix.EINTR || at.side == 2 {
		if err := t.asUsual(patience); err != nil {
			return err
		}
		return p.afterwards(place)
	}
	victim, other := t.runs[at.side], t.runs[1-at.side]
	statuses := []string{"0", "1"}
	if !victim.within(patience) {
		if at.fate.kill || other == nil {
			return fmt.Errorf("hangs: %v", victim)
		}
		// It has begun once more, and what the other had is gone.
		if err := t.outlives(place, other, victim); err != nil {
			return err
		}
		return p.next(place)
	}
	if at.change != nil {
		statuses = append(statuses, "141")
	}
	if at.fate.kill {
		statuses = append(statuses, "KILL")
	}
	if err := t.outlives(place, victim, other); err != nil {
		return err
	}
	if err := victim.is(statuses...); err != nil {
		return err
	}
	if !closed(victim.gone, slack) {
		return fmt.Errorf("a child of it is still there: %v", victim)
	}
	if !at.fate.kill && !t.removes && p.after == nil && p.name != "08-rm" {
		if err := place.left(); err != nil {
			return fmt.Errorf("%w\n%v\n%v", err, victim, other)
		}
	}
	if p.cure != "" {
		if err := p.afterwards(place); err != nil {
			return err
		}
	}
	return p.next(place)
}

// outlives checks that the other of the pair ends soon after the victim; or
// that it waits for the next, and does with that what it is for.
func (t *trial) outlives(place *place, victim, other *run) error {
	if other == nil || other.within(slack) {
		if other == nil {
			return nil
		}
		return other.is("0", "1")
	}
	if t.cure != "" {
		cure := place.start(with{}, t.cure)
		cure.within(slack)
		if !other.within(slack) {
			return fmt.Errorf("does not end, in spite of the cure: %v", other)
		}
		return errors.Join(cure.is("0"), other.is("0", "1"))
	}
	if !strings.Contains(other.err.String(), "waiting for") {
		return fmt.Errorf("hangs: %v\nsince the end of %v", other, victim)
	}
	again := &trial{pair: t.pair, runs: t.runs}
	w := with{}
	if other == t.runs[1] && t.stdin != "" {
		w.stdin = &t.stdin
	}
	if other == t.runs[1] {
		again.runs[0] = place.start(w, t.a)
	} else {
		again.runs[1] = place.start(w, t.b)
	}
	again.endInput()
	defer again.end()
	if err := again.asUsual(slack); err != nil {
		return fmt.Errorf("with another in the place of the victim: %w", err)
	}
	return nil
}

// points finds the calls of one or both of a pair by running it once, with
// nothing done. Of those that are made again and again it takes the first few.
func (p pair) points(place *place, fates func(name string) []fate, few int, sides ...int) (
	all []point, err error) {
	for _, side := range sides {
		t := p.begin(place, &point{side: side}, "")
		err := t.asUsual(patience)
		t.end()
		if err = errors.Join(err, p.afterwards(place)); err != nil {
			return nil, err
		}
		for name, n := range t.counts {
			for i := range min(n, few) {
				for _, f := range fates(name) {
					all = append(all, point{side: side, name: name, n: i + 1, fate: f})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b point) int {
		return strings.Compare(fmt.Sprintf("%02d%s", a.n, a), fmt.Sprintf("%02d%s", b.n, b))
	})
	return all, nil
}

// some takes a few of many, from all over.
func some[T any](all []T, few int) (some []T) {
	for i := range min(few, len(all)) {
		some = append(some, all[(2*i+1)*len(all)/(2*min(few, len(all)))])
	}
	return some
}

// callFaults are what can happen at a call of each pair.
func callFaults() (all []fault) {
	for k, kind := range []struct {
		name  string
		fates func(name string) []fate
		few   int // of the same call, with -long
		short int // points, without it
	}{
		{"killed", func(string) []fate { return []fate{{kill: true}} }, 100, 1},
		{"delayed", func(string) []fate { return []fate{{delay: time.Second}} }, 3, 1},
		{"stopped", func(string) []fate { return []fate{{stop: 3 * time.Second}} }, 2, 1},
		{"failing", func(name string) (all []fate) {
			for _, call := range watched {
				for _, err := range call.errors {
					if call.name == name {
						all = append(all, fate{err: err})
					}
				}
			}
			return all
		}, 6, 2},
	} {
		for i, p := range pairs() {
			all = append(all, fault{name: kind.name + "/" + p.name, needs: "seccomp",
				do: func(x *experiment) {
					sides := []int{0, 1}
					if p.b == "" {
						sides = sides[:1]
					} else if !x.job.Long && !x.job.Until {
						sides = sides[(i+k)%2:][:1]
					}
					points, err := p.points(x.place(0), kind.fates, kind.few, sides...)
					if err != nil {
						x.errorf("%s: %v", p.name, err)
						return
					}
					if x.job.Until {
						points = some(points, 50)
					} else if !x.job.Long {
						points = some(points, kind.short)
					}
					each(x, 6, points, func(place *place, at point) {
						if x.job.Until && x.failed() {
							return
						}
						if err := p.suffer(place, at); err != nil {
							x.errorf("%v", err)
						}
					})
				}})
		}
	}
	return all
}
