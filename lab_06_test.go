//go:build linux

package shm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// Lab 06 looks at a segment that exists only for a millisecond. So a process is
// held at a call. For the program this is like a call that sleeps: a signal
// interrupts it.

// The points at which a process can be held.
const (
	beforeAttach = "attach" // it calls shmat: the segment exists, and is not marked yet
	withList     = "list"   // it has attached the segment, and now detaches it or ends
	walkerDone   = "walker" // it is the walker, has attached the segment, and now prints, detaches or ends
	walkerPrints = "write"  // it is the walker, and prints
)

var rules06 = []rule{{call: unix.SYS_SHMGET}, {call: unix.SYS_SHMAT}, {call: unix.SYS_SHMDT},
	{call: unix.SYS_SHMCTL}, {unix.SYS_WRITE, 0, equals, 1}, {unix.SYS_WRITEV, 0, equals, 1},
	{call: unix.SYS_EXIT_GROUP}}

// A walk06 is the decider of lab 06. It knows what the processes of a program have
// called.
type walk06 struct {
	calls   map[string][]int        // the processes that have made a call
	seen    []int                   // all processes
	creator int                     // the first that has called shmget
	fixed   bool                    // a process has given shmat an address
	early   bool                    // the creator has removed the segment before its shmat
	wrote   bool                    // a walker has printed
	mode    uint64                  // what the creator has given shmget
	before  map[int]map[uint64]bool // the addresses of its segments before its shmat
	where   map[int]map[uint64]bool // and at its latest call
}

func (*walk06) points() []string {
	return []string{beforeAttach, withList, walkerDone, walkerPrints}
}

func (d *walk06) missing(name, point string) string {
	n := len(d.calls["shmat"])
	switch {
	case n == 0:
		return "no process of " + name + " has called shmat"
	case point == walkerPrints && n > 1:
		return fmt.Sprintf("the walker of %s has not printed anything", name)
	case point == walkerDone && len(d.seen) == 1:
		return fmt.Sprintf("%s is one process, without a second one that calls shmat", name)
	case n == 1:
		return fmt.Sprintf("one process of %s has called shmat, and no other", name)
	}
	return fmt.Sprintf("%d processes of %s have called shmat", n, name)
}

func (d *walk06) at(c call) (points []string) {
	pid, name := c.process(), watched[c.nr].name
	switch c.nr {
	case unix.SYS_WRITEV:
		name = "write"
	case unix.SYS_EXIT_GROUP:
		name = "exit"
	}
	note := func(list []int) []int {
		if slices.Contains(list, pid) {
			return list
		}
		return append(list, pid)
	}
	d.seen, d.calls[name] = note(d.seen), note(d.calls[name])
	has := attaches(pid)
	if name == "shmat" && d.before[pid] == nil {
		d.before[pid] = has
	}
	if name == "shmat" && c.args[1] != 0 {
		d.fixed = true
	}
	if len(has) > 0 {
		d.where[pid] = has
	}
	if name == "shmget" && d.creator == 0 {
		d.creator, d.mode = pid, c.args[2]&0o777
	}
	if name == "shmctl" && pid == d.creator && c.args[1]&0xff == unix.IPC_RMID && !slices.Contains(d.calls["shmat"], pid) {
		d.early = true
	}
	walker := pid != d.creator && slices.Contains(d.calls["shmat"], pid)
	d.wrote = d.wrote || walker && name == "write"
	leaves := name == "shmdt" || name == "exit"
	for point, is := range map[string]bool{
		beforeAttach: name == "shmat",
		withList:     leaves && len(has) > 0,
		walkerDone:   walker && (leaves || name == "write"),
		walkerPrints: walker && name == "write",
	} {
		if is {
			points = append(points, point)
		}
	}
	return points
}

// attaches are the addresses at which a process has attached System V segments.
func attaches(pid int) map[uint64]bool {
	all := map[uint64]bool{}
	for _, a := range segmentsOf(pid) {
		all[a.from] = true
	}
	return all
}

func init() {
	maps.Copy(conditions, map[string]looker{
		"callers NAME CALL OP N": asks(lookCallers),
		"apart NAME":             asks(lookApart),
		"addresses NAME":         asks(lookAddresses),
		"patient NAME":           asks(lookPatient),
		"over NAME":              asks(lookOver),
		"list KEY VALUES":        lookList,
		"link KEY INDEX OP N":    lookLink,
		"values NAME LIST":       ofProgram(lookValues),
		"stores KEY VALUES":      lookStores,
		"fixed NAME":             asks(lookFixed),
		"early NAME":             asks(lookEarly),
		"created NAME OP OCTAL":  asks(lookCreated),
		"writes NAME":            asks(lookWrites),
		"unchanged KEY":          lookUnchanged,
	})
	maps.Copy(moreCommands, map[string]labCommand{
		"kill-one": {"kill-one NAME builder|walker SIGNAL", 3, plain((*session).killOne)},
		"id":       {"id KEY", 1, plain((*session).segmentID)},
		"spend-id": {"spend-id", 0, plain((*session).spendID)},
		"remember": {"remember KEY", 1, plain((*session).remember)},
	})
	moreSteps["list"] = stepList
	moreSteps["series"] = stepSeries
}

// lookCallers counts the processes that have made a call, or "any" of those
// that the grader is asked about.
func lookCallers(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	list := d.calls[args[1]]
	if args[1] == "any" {
		list = d.seen
	}
	is, err := compare(int64(len(list)), args[2], args[3])
	return is, fmt.Sprintf("the number of processes of %s that have called %s is %d", args[0], args[1], len(list)), err
}

// lookApart tells whether the walker, which is held, has attached the segment at
// another address than the builder.
func lookApart(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	if h.first == 0 {
		return false, "no walker has attached the segment", nil
	}
	builders := attaches(d.creator)
	if len(builders) == 0 {
		builders = d.where[d.creator]
	}
	own := attaches(h.first)
	if len(own) == 0 {
		own = d.where[h.first]
	}
	inherited := d.before[h.first]
	for address := range own {
		if inherited[address] {
			continue // inherited by fork
		}
		random, _ := os.ReadFile("/proc/sys/kernel/randomize_va_space")
		if builders[address] && string(random) != "0\n" { // without random addresses all programs have the same
			return false, fmt.Sprintf("builder and walker have the segment at the same address, %#x", address), nil
		}
		return true, "builder and walker have the segment at different addresses", nil
	}
	return false, "the walker has not attached the segment: its shmat has failed", nil
}

// lookAddresses tells whether a word of the segment is an address. A word of 64
// bits may point to anything in the memory of a process of the program. A word of
// 32 bits may be an address in the segment that was cut.
func lookAddresses(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	text, state, err := s.contents("any")
	if state != "" || err != nil {
		return false, state, err
	}
	var all, segments []area
	for _, pid := range d.seen {
		all, segments = append(all, areas(pid)...), append(segments, segmentsOf(pid)...)
	}
	in := func(n uint64, mask uint64) func(area) bool {
		return func(a area) bool { return n-a.from&mask < a.to-a.from && n >= a.from&mask }
	}
	for at := 0; at+8 <= len(text); at += 8 {
		word := binary.LittleEndian.Uint64(text[at:])
		if word >= 1<<16 && slices.ContainsFunc(all, in(word, ^uint64(0))) {
			return true, fmt.Sprintf("the word at offset %d, %#x, is an address of the process", at, word), nil
		}
	}
	for at := 0; at+4 <= len(text); at += 4 {
		word := uint64(binary.LittleEndian.Uint32(text[at:]))
		if word >= 1<<12 && word != 0xffffffff && slices.ContainsFunc(segments, in(word, 0xffffffff)) {
			return true, fmt.Sprintf("the word at offset %d, %#x, is an address in the segment, cut to 32 bits", at, word), nil
		}
	}
	return false, "no word of the segment is an address", nil
}

// lookPatient tells whether the builder waits for its walker, which is held. The
// builder sleeps in the kernel, or has run on for at least a second.
func lookPatient(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	switch {
	case h.first == 0:
		return false, "there is no walker", nil
	case !runs(d.creator):
		return false, "the builder has ended, and its walker has not", nil
	case time.Since(h.since) > time.Second:
		return true, "the builder still runs", nil
	}
	for _, call := range waiting(d.creator) {
		switch calls[int(call[0])] {
		case "wait", "read", "poll":
			return true, "the builder waits", nil
		}
	}
	return false, "the builder does not wait", nil
}

// runs tells whether a process has not ended.
func runs(pid int) bool {
	state := statusField(pid, "State")
	return state != "" && state != "Z" && state != "X"
}

// lookOver tells whether all processes of a program have ended.
func lookOver(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	for _, pid := range d.seen {
		if runs(pid) {
			who := "a process of " + args[0]
			switch pid {
			case d.creator:
				who = "the builder"
			case h.first:
				who = "the walker"
			}
			return false, who + " still runs", nil
		}
	}
	return true, "all processes of " + args[0] + " have ended", nil
}

const nodesFrom, nodesTo = 16, 4080 // the offsets that a node can have

// links follows a list, and returns its links and values. There is one link more
// than values.
func (s *session) links(key string) (links []int64, values []int32, state string, err error) {
	text, state, err := s.contents(key)
	if state != "" || err != nil {
		return nil, nil, state, err
	}
	if len(text) < nodesFrom {
		return nil, nil, fmt.Sprintf("the segment has only %d bytes", len(text)), nil
	}
	count := int32(binary.LittleEndian.Uint32(text))
	offset := int64(binary.LittleEndian.Uint64(text[8:]))
	links = append(links, offset)
	for range min(count, 255) {
		if offset < nodesFrom || offset > nodesTo || offset%8 != 0 || offset+16 > int64(len(text)) {
			break
		}
		values = append(values, int32(binary.LittleEndian.Uint32(text[offset+8:])))
		offset = int64(binary.LittleEndian.Uint64(text[offset:]))
		links = append(links, offset)
	}
	return links, values, "", nil
}

// lookList tells whether a segment has a good list of these values.
func lookList(s *session, args []string) (bool, string, error) {
	links, values, state, err := s.links(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	part, state, err := s.at(args[0], "0", 4)
	if state != "" || err != nil {
		return false, state, err
	}
	count := int(int32(binary.LittleEndian.Uint32(part)))
	want := strings.Split(args[1], ",")
	what := "first_offset"
	if len(links) > 1 {
		what = fmt.Sprintf("next_offset of node %d", len(links)-1)
	}
	last := links[len(links)-1]
	switch {
	case count != len(want):
		return false, fmt.Sprintf("count is %d", count), nil
	case len(links) <= count && last == -1:
		return false, fmt.Sprintf("%s is -1, and count is %d", what, count), nil
	case len(links) <= count:
		return false, fmt.Sprintf("%s is %d: not 16 to 4080, or not a multiple of 8", what, last), nil
	case last != -1:
		return false, fmt.Sprintf("next_offset of the last node is %d, not -1", last), nil
	}
	for i, value := range values {
		if strconv.Itoa(int(value)) != want[i] {
			return false, fmt.Sprintf("the value of node %d is %d, not %s", i+1, value, want[i]), nil
		}
	}
	return true, "the list is good", nil
}

// lookLink compares a link: 0 is first_offset, the others are those of nodes.
func lookLink(s *session, args []string) (bool, string, error) {
	links, _, state, err := s.links(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	i, err := strconv.Atoi(args[1])
	if err != nil || i >= len(links) {
		return false, fmt.Sprintf("the list has no link %s", args[1]), err
	}
	is, err := compare(links[i], args[2], args[3])
	return is, fmt.Sprintf("link %d of the list is %d", i, links[i]), err
}

// lookValues tells whether a program has printed lines with these values, and
// no others: "7,11", or "1000..1254". The lines of the assignment, character
// for character, are for the command output.
func lookValues(s *session, p *process, args []string) (bool, string, error) {
	var got []string
	label := s.lab.sub.lab.values(s.lab.sub.variant)["LABEL"]
	line := regexp.MustCompile(`(?m)^ *` + label + ` *= *(\S+)$`)
	for _, m := range line.FindAllStringSubmatch(p.stdout(), -1) {
		got = append(got, m[1])
	}
	want := args[1]
	if from, to, is := strings.Cut(args[1], ".."); is {
		first, e1 := strconv.Atoi(from)
		last, e2 := strconv.Atoi(to)
		if err := errors.Join(e1, e2); err != nil {
			return false, "", err
		}
		want = ""
		for n := first; n <= last; n++ {
			want += "," + strconv.Itoa(n)
		}
		want = want[1:]
	}
	values := strings.Join(got, ",")
	if values == "" {
		return false, fmt.Sprintf("%s has printed no line with \"%s = \"", args[0], label), nil
	}
	return values == want, fmt.Sprintf("%s has printed the values %s", args[0], short(values)), nil
}

// lookStores tells whether each of these values is a word of 32 bits in a
// segment, wherever.
func lookStores(s *session, args []string) (bool, string, error) {
	text, state, err := s.contents(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	words := map[string]bool{}
	for ; len(text) >= 4; text = text[4:] {
		words[strconv.Itoa(int(int32(binary.LittleEndian.Uint32(text))))] = true
	}
	for value := range strings.SplitSeq(args[1], ",") {
		if !words[value] {
			return false, "no word of the segment is " + value, nil
		}
	}
	return true, "the values " + args[1] + " are in the segment", nil
}

// lookFixed tells whether a process has given shmat an address.
func lookFixed(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	return d.fixed, fmt.Sprintf("%s has %sgiven shmat an address", args[0], notUnless(d.fixed)), nil
}

// lookEarly tells whether the builder has removed the segment before its shmat.
func lookEarly(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	return d.early, fmt.Sprintf("%s has %sremoved the segment before shmat", args[0], notUnless(d.early)), nil
}

// lookCreated compares the mode that the builder has given shmget.
func lookCreated(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	is, err := compare(int64(d.mode), args[1], "0"+args[2])
	return is && d.creator != 0, fmt.Sprintf("%s has created the segment with mode %o", args[0], d.mode), err
}

// lookWrites tells whether a process other than the builder has printed, after its
// shmat.
func lookWrites(s *session, h *holder, d *walk06, args []string) (bool, string, error) {
	return d.wrote, fmt.Sprintf("the walker of %s has %sprinted anything", args[0], notUnless(d.wrote)), nil
}

// lookUnchanged tells whether a segment is as it was when the script said
// "remember".
func lookUnchanged(s *session, args []string) (bool, string, error) {
	text, state, err := s.contents(args[0])
	if state != "" || err != nil {
		return false, state, err
	}
	before := s.lab.files["segment "+args[0]]
	for i, c := range text {
		if i >= len(before) || before[i] != c {
			return false, fmt.Sprintf("byte %d of the segment was changed", i), nil
		}
	}
	return true, "the segment is as it was", nil
}

func (s *session) remember(ts *testscript.TestScript, args []string) {
	text, state, err := s.contents(args[0])
	ts.Check(err)
	if state != "" {
		ts.Fatalf("%s", state)
	}
	s.lab.files["segment "+args[0]] = bytes.Clone(text)
}

// killOne sends a signal to one process of a program.
func (s *session) killOne(ts *testscript.TestScript, args []string) {
	h, sig := s.process(ts, args[0]).holder, parseSignal(ts, args[2])
	if h == nil {
		ts.Fatalf("start %s with -hold", args[0])
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	pid := h.decider.(*walk06).creator
	if args[1] == "walker" {
		pid = h.first
	}
	if pid == 0 {
		s.fail(ts, "%s has no %s", args[0], args[1])
	}
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		ts.Check(err)
	}
}

// segmentID sets $ID to the id of a segment.
func (s *session) segmentID(ts *testscript.TestScript, args []string) {
	g, state, err := findSegment(args[0])
	ts.Check(err)
	if state != "" {
		s.fail(ts, "%s", state)
	}
	ts.Setenv("ID", strconv.Itoa(g.id))
}

// spendID makes and removes a segment. Its id is 0, as the first one's is in a new
// world. So the next segment has another id: some programs take 0 for an error.
func (s *session) spendID(ts *testscript.TestScript, _ []string) {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 1, 0o600)
	ts.Check(err)
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	ts.Check(err)
}

// stepList is the step "list [-keep] COUNT [OFFSET:VALUE]...": the peer stores
// nodes at these offsets, each with a link to the next one, and -1 in the last.
// All other bytes become 0, if they are not to be kept.
func stepList(p *player, args []string) error {
	if args[0] == "-keep" {
		args = args[1:]
	} else {
		clear(p.mem)
	}
	var offsets []int
	var values []int64
	count, err := strconv.ParseInt(args[0], 0, 32)
	if err != nil {
		return err
	}
	for _, arg := range args[1:] {
		if arg == "" {
			continue
		}
		offset, value, _ := strings.Cut(arg, ":")
		o, e1 := strconv.Atoi(offset)
		v, e2 := strconv.ParseInt(value, 0, 32)
		if err := errors.Join(e1, e2); err != nil {
			return err
		}
		offsets, values = append(offsets, o), append(values, v)
	}
	return p.storeList(int32(count), offsets, values)
}

// stepSeries is the step "series COUNT N FIRST [DISTANCE]": N nodes one after the
// other, with the values FIRST, FIRST+1 and so on. With DISTANCE 8 the nodes
// overlap: each link lies where the node before it has its value.
func stepSeries(p *player, args []string) error {
	var count, n, first int
	distance := 16
	if _, err := fmt.Sscan(strings.Join(args[:3], " "), &count, &n, &first); err != nil {
		return err
	}
	if args[3] != "" {
		distance, _ = strconv.Atoi(args[3])
	}
	clear(p.mem)
	var offsets []int
	var values []int64
	for i := range n {
		offsets, values = append(offsets, nodesFrom+distance*i), append(values, int64(first+i))
	}
	return p.storeList(int32(count), offsets, values)
}

func (p *player) storeList(count int32, offsets []int, values []int64) error {
	link := func(i int) uint64 {
		if i >= len(offsets) {
			return 1<<64 - 1
		}
		return uint64(offsets[i])
	}
	for i, offset := range offsets {
		if offset < 0 || offset+16 > len(p.mem) {
			return fmt.Errorf("the segment has %d bytes", len(p.mem))
		}
		binary.LittleEndian.PutUint64(p.mem[offset:], link(i+1))
		binary.LittleEndian.PutUint32(p.mem[offset+8:], uint32(values[i]))
	}
	binary.LittleEndian.PutUint32(p.mem, uint32(count))
	binary.LittleEndian.PutUint64(p.mem[8:], link(0))
	return nil
}
