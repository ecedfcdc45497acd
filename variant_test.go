//go:build linux

package shm_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The values of an assignment are keys, sizes and letters. Variant 0 has those of
// the tutorial and of our programs. Other variants have other values, so that our
// programs do not pass when they are handed in.
var (
	variant    = new(int)
	assignment = flag.Bool("assignment", false, "print the assignments of the labs in -only, for -variant")
)

func init() {
	flag.Func("variant", "grade for the assignment with this `number`", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 31)
		*variant = int(n)
		if err != nil {
			return errors.New("want a number from 0")
		}
		return nil
	})
}

// derived makes random numbers that depend only on the lab and the variant.
func derived(lab uint64, variant int) *rand.Rand {
	return rand.New(rand.NewPCG(lab, uint64(variant)))
}

// hexKey is a key whose four hexadecimal digits are decimal digits, as in 0x1234.
// So the grader can recognise the mistake 1234.
func hexKey(r *rand.Rand) int {
	digits := strconv.Itoa(1000 + r.IntN(9000))
	key, _ := strconv.ParseInt(digits, 16, 32)
	return int(key)
}

func values01(variant int) map[string]string {
	key, buffer, first := 0x1234, 1024, 'A'
	if variant != 0 {
		r := derived(1, variant)
		key, buffer, first = hexKey(r), 512+64*r.IntN(7), 'F'+rune(r.IntN(16))
	}
	v := map[string]string{
		"KEY": fmt.Sprintf("%#x", key), "KEYDEC": fmt.Sprintf("%x", key),
		"BUFFER": strconv.Itoa(buffer), "BLOCK": strconv.Itoa(buffer - 1),
		"SIZE": strconv.Itoa(8 + buffer), "LAST": strconv.Itoa(8 + buffer - 1),
		"KEYNUMBER": strconv.Itoa(key),
	}
	// Sizes of wrong layouts: without complete, and with 8 bytes for each number.
	v["SIZE4"], v["SIZE16"] = strconv.Itoa(4+buffer), strconv.Itoa(16+buffer)
	v["HALF"], v["REST"] = strconv.Itoa(buffer/2), strconv.Itoa(buffer-1-buffer/2)
	v["HALFBLOCK"] = strings.Repeat(string(first+1), buffer/2)
	v["HALFMORE"] = strconv.Itoa(buffer/2 + 1)
	v["ONELESS"] = strconv.Itoa(buffer - 2) // of a block
	v["MIDDLE"] = strconv.Itoa(8 + buffer/2)
	for i := range 5 {
		letter := string(first + rune(i))
		v[fmt.Sprintf("L%d", i+1)] = letter
		v[fmt.Sprintf("B%d", i+1)] = strings.Repeat(letter, buffer-1) // a block of it
		v["LETTERS"] += letter
	}
	return v
}

func values03(variant int) map[string]string {
	key, semkey, buffer := 0x1234, 0x5678, 1024
	if variant != 0 {
		r := derived(3, variant)
		key, semkey, buffer = hexKey(r), hexKey(r), 512+64*r.IntN(7)
	}
	return map[string]string{
		"KEY": fmt.Sprintf("%#x", key), "KEYDEC": fmt.Sprintf("%x", key),
		"SEMKEY": fmt.Sprintf("%#x", semkey), "SEMKEYDEC": fmt.Sprintf("%x", semkey),
		"BUFFER": strconv.Itoa(buffer), "SIZE": strconv.Itoa(4 + buffer),
		"SWAPPED": strconv.Itoa(int(int32(bits.ReverseBytes32(uint32(buffer))))),
		"ONELESS": strconv.Itoa(buffer - 1), "ONEMORE": strconv.Itoa(buffer + 1),
		"KEYNUMBER": strconv.Itoa(key), "SEMKEYNUMBER": strconv.Itoa(semkey),
	}
}

func values04(variant int) map[string]string {
	key, semkey, places := 54321, 56789, 100
	if variant != 0 {
		r := derived(4, variant)
		key, semkey, places = 40000+r.IntN(10000), 60000+r.IntN(10000), 20+5*r.IntN(12)
	}
	return map[string]string{
		"KEY": strconv.Itoa(key), "SEMKEY": strconv.Itoa(semkey),
		"KEYHEX": fmt.Sprintf("%#x", key), "SEMKEYHEX": fmt.Sprintf("%#x", semkey),
		"PLACES": strconv.Itoa(places), "COUNT": strconv.Itoa(4 * places),
		"SIZE": strconv.Itoa(4*places + 4), "TABLE": strconv.Itoa(4*places - 4),
		"LAST": strconv.Itoa(places - 1), "MORE": strconv.Itoa(places + 1),
		"LARGER": strconv.Itoa(4*places + 100), "SMALLER": strconv.Itoa(3*places + 4),
	}
}

func values05(variant int) map[string]string {
	letter, rounds, message := "M", 100, 0
	if variant != 0 {
		r := derived(5, variant)
		letter, rounds = string('A'+rune(r.IntN(12))), 110+10*r.IntN(20)
		message = 104 + 8*r.IntN(18) // bytes before the counter; in variant 0 it comes after it
	}
	mutex := 40 // bytes of a pthread_mutex_t
	if runtime.GOARCH == "arm64" {
		mutex = 48
	}
	counter, rest := mutex+message, 8
	if variant == 0 {
		rest = 264
	}
	return map[string]string{
		"MESSAGE": strconv.Itoa(message),
		// for the page, which says both
		"COUNTER40": strconv.Itoa(40 + message), "COUNTER48": strconv.Itoa(48 + message),
		"AFTER40": strconv.Itoa(44 + message), "AFTER48": strconv.Itoa(52 + message),
		"SIZE40": strconv.Itoa(48 + message), "SIZE48": strconv.Itoa(56 + message),
		"FTOK": letter, "ROUNDS": strconv.Itoa(rounds), "TOTAL": strconv.Itoa(2 * rounds),
		"COUNTER": strconv.Itoa(counter), "SIZE": strconv.Itoa(counter + rest),
		// when the grader has added 5, or 12
		"TOTAL5":  strconv.Itoa(2*rounds + 5),
		"TOTAL12": strconv.Itoa(2*rounds + 12),
	}
}

func values06(variant int) map[string]string {
	letter, first, step, label := "Z", 10, 10, "value"
	if variant != 0 {
		r := derived(6, variant)
		letter, first, step = string('N'+rune(r.IntN(12))), 100+r.IntN(100), 3+r.IntN(20)
		// A walker can walk the lists of any variant, but prints its own label.
		label = []string{"number", "item", "entry", "content", "element", "figure"}[r.IntN(6)] + " " + letter
	}
	v := map[string]string{"FTOK": letter, "LABEL": label, "OTHERKEY": "0x6f66", "OTHERKEY2": "0x6f67"}
	for i := range 3 {
		v[fmt.Sprintf("V%d", i+1)] = strconv.Itoa(first + i*step)
	}
	return v
}

// phrases are pairs: the words in which ASSIGNMENT.md of a lab gives a value of
// variant 0, and the words that replace them in another variant. They also take
// out what is true only of variant 0: that programs run together with ours,
// which have the same values.
var phrases = map[string][][2]string{
	"01": {
		{"0x1234", "$KEY"}, {"4660", "$KEYNUMBER"}, {"1032", "$SIZE"}, {"1024", "$BUFFER"},
		{"1023", "$BLOCK"}, {"A, B, C, D and E", "$L1, $L2, $L3, $L4 and $L5"},
		{"A to E", "$L1 to $L5"}, {"AAAA…", "$L1$L1$L1$L1…"}, {"BBBB…", "$L2$L2$L2$L2…"},
		{"with each other, with ours, and with programs of its own", "with each other, and with programs of its own"},
		{"your writer with our reader, our writer with your reader, in either order |\n| | | ", ""},
	},
	"03": {
		{"0x1234", "$KEY"}, {"4660", "$KEYNUMBER"}, {"0x5678", "$SEMKEY"},
		{"22136", "$SEMKEYNUMBER"}, {"1028", "$SIZE"}, {"1024", "$BUFFER"},
		{"1023", "$ONELESS"}, {"1025", "$ONEMORE"},
		{"with each other, with ours, and with programs of its own", "with each other, and with programs of its own"},
		{"your writer with our reader, our writer with your reader, in either order |\n| | | ", ""},
		{" Lab 01 uses the same key with another layout: do not run both at once.", ""},
	},
	"04": {
		{"54321", "$KEY"}, {"0xd431", "$KEYHEX"}, {"56789", "$SEMKEY"}, {"0xddd5", "$SEMKEYHEX"},
		{"404", "$SIZE"}, {"400", "$COUNT"}, {"100", "$PLACES"},
		{"together with ours, and with a program of its own", "together with a program of its own"},
		{"your program and ours at once, either one first |\n| | | ", ""},
		{"does the same as yours. Its flag", "does the same with other keys and another table. Its flag"},
	},
	"05": {
		{"'M'", "'$FTOK'"}, {"100 times", "$ROUNDS times"}, {"100 additions", "$ROUNDS additions"},
		{"= 200 (expected 200)", "= $TOTAL (expected $TOTAL)"}, {"`expected 200`", "`expected $TOTAL`"},
		{"the sum is 200", "the sum is $TOTAL"},
		// The message comes first, so that the flags -key and -n do not suffice.
		{"There the counter is at 48, the message at 52, and the segment has 312 bytes.",
			"There the message is at 48, the counter at $COUNTER48, and the segment has $SIZE48 bytes."},
		{"| 40 | 4 | int32 | counter | starts at 0 |\n| 44 | 256 | bytes | message | not used |\n| 300 | 4 | | | unused, so that the size is 304 |",
			"| 40 | $MESSAGE | bytes | message | not used |\n| $COUNTER40 | 4 | int32 | counter | starts at 0 |\n| $AFTER40 | 4 | | | unused, so that the size is $SIZE40 |"},
		{"    int counter;            /* offset 40; on arm64 48 */\n    char message[256];      /* offset 44; on arm64 52 */\n",
			"    char message[$MESSAGE];      /* offset 40; on arm64 48 */\n    int counter;            /* offset $COUNTER40; on arm64 $COUNTER48 */\n"},
		{"counter) == sizeof(pthread_mutex_t),",
			"counter) == sizeof(pthread_mutex_t) + $MESSAGE,"},
		{"        (\"counter\", ctypes.c_int32),                # offset 40; on arm64 48\n        (\"message\", ctypes.c_ubyte * 256),          # offset 44; on arm64 52\n",
			"        (\"message\", ctypes.c_ubyte * $MESSAGE),          # offset 40; on arm64 48\n        (\"counter\", ctypes.c_int32),                # offset $COUNTER40; on arm64 $COUNTER48\n"},
		{"== MUTEX + 264",
			"== MUTEX + $MESSAGE + 8"},
		{"\tCounter int32         // offset 40; on arm64 48\n\tMessage [256]byte     // offset 44; on arm64 52\n\t_       [4]byte       // offset 300; on arm64 308\n",
			"\tMessage [$MESSAGE]byte     // offset 40; on arm64 48\n\tCounter int32         // offset $COUNTER40; on arm64 $COUNTER48\n\t_       [4]byte       // offset $AFTER40; on arm64 $AFTER48\n"},
	},
	"06": {
		{"'Z'", "'$FTOK'"}, {"10, 20 and 30", "$V1, $V2 and $V3"}, {"10, 20, 30", "$V1, $V2, $V3"},
		{"value = 10", "$LABEL = $V1"}, {"value = 20", "$LABEL = $V2"}, {"value = 30", "$LABEL = $V3"},
		{"`value = `", "`$LABEL = `"},
		{"our walker walks your list; your walker walks ours |\n| | | ", ""},
	},
}

// assignmentOf is a lab's ASSIGNMENT.md, for a variant.
func assignmentOf(l *lab, variant int) (string, error) {
	text, err := os.ReadFile(filepath.Join(l.lesson, "ASSIGNMENT.md"))
	if err != nil || variant == 0 {
		return string(text), err
	}
	values := l.values(variant)
	var old []string
	instead := map[string]string{}
	for _, p := range phrases[l.number] {
		old = append(old, asWord(p[0]))
		instead[p[0]] = os.Expand(p[1], func(name string) string { return values[name] })
	}
	points, err := variantPoints(l)
	if err != nil {
		return "", err
	}
	page := regexp.MustCompile(strings.Join(old, "|")).ReplaceAllStringFunc(string(text),
		func(found string) string { return instead[found] })
	without := points["basic"] + points["interop"]
	for was, is := range map[string]string{
		`\| interop \| \d+ `: fmt.Sprintf("| interop | %v ", points["interop"]),
		`can get \d+ points`: fmt.Sprintf("can get %v of %v points", without, without+points["robust"]),
	} {
		page = regexp.MustCompile(was).ReplaceAllString(page, is)
	}
	title, rest, _ := strings.Cut(page, "\n")
	return fmt.Sprintf("%s (variant %d)\n\nThe keys and numbers on this page are those of variant %[2]d. The lesson's "+
		"README, and our programs, have others.\n%s", title, variant,
		strings.ReplaceAll(rest, "go test -lab DIR", fmt.Sprintf("go test -lab DIR -variant %d", variant))), nil
}

// variantPoints are the points of each tier that a lab gives in a variant,
// where no program is paired with ours.
func variantPoints(l *lab) (map[string]float64, error) {
	scripts, err := readLab(l)
	points := map[string]float64{}
	for _, s := range scripts {
		if !s.needsOurs() {
			points[s.tier] += s.points
		}
	}
	return points, err
}

// asWord is a pattern that finds a phrase, but not within a word or a number.
func asWord(phrase string) string {
	pattern := regexp.QuoteMeta(phrase)
	if regexp.MustCompile(`^\w`).MatchString(phrase) {
		pattern = `\b` + pattern
	}
	if regexp.MustCompile(`\w$`).MatchString(phrase) {
		pattern += `\b`
	}
	return pattern
}

// TestAssignments checks the assignments of variants: all values of variant 0 are
// replaced, and the page has the new ones.
func TestAssignments(t *testing.T) {
	for _, l := range labs {
		page, err := assignmentOf(l, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range phrases[l.number] {
			if !regexp.MustCompile(asWord(p[0])).MatchString(page) {
				t.Errorf("lab %s: ASSIGNMENT.md does not say %q", l.number, p[0])
			}
		}
		for v := 1; v <= 20; v++ {
			page, err := assignmentOf(l, v)
			if err != nil {
				t.Fatal(err)
			}
			values := l.values(v)
			var old []string
			for name, value := range l.values(0) {
				if len(value) >= 4 && name != "LABEL" { // others, such as 100, also mean something else
					old = append(old, value)
				}
			}
			for _, p := range phrases[l.number] {
				old = append(old, p[0])
			}
			for _, o := range old {
				if !slices.Contains(slices.Collect(maps.Values(values)), o) && regexp.MustCompile(asWord(o)).MatchString(page) {
					t.Errorf("lab %s, variant %d: the page says %q, as in variant 0", l.number, v, o)
				}
			}
			if m := regexp.MustCompile(`\b(ours|our (writer|reader|list|walker))\b`).FindString(page); m != "" {
				t.Errorf("lab %s, variant %d: the page says %q, but no program is paired with ours", l.number, v, m)
			}
			points, err := variantPoints(l)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{fmt.Sprintf("| interop | %v |", points["interop"]),
				fmt.Sprintf("can get %v of %v points.", points["basic"]+points["interop"],
					points["basic"]+points["interop"]+points["robust"])} {
				if !strings.Contains(page, want) {
					t.Errorf("lab %s, variant %d: the page does not say %q", l.number, v, want)
				}
			}
			for _, p := range phrases[l.number] {
				want := os.Expand(p[1], func(name string) string { return values[name] })
				if !strings.Contains(page, want) || strings.Contains(want, "$") {
					t.Errorf("lab %s, variant %d: the page does not say %q", l.number, v, want)
				}
			}
			if l.values(v)["KEY"] == l.values(0)["KEY"] && l.values(v)["FTOK"] == l.values(0)["FTOK"] {
				t.Errorf("lab %s: variant %d has the key of variant 0", l.number, v)
			}
		}
	}
}

// inOurs are the places of our programs that a variant changes.
var inOurs = map[string][]broken{
	"01": {
		{file: "01-shm-write-read/segment/segment.go", old: "= 0x1234 ", new: "= $KEY "},
		{file: "01-shm-write-read/segment/segment.go", old: "= 1032 ", new: "= $SIZE "},
		{file: "01-shm-write-read/segment/segment.go", old: "= 1023 ", new: "= $BLOCK "},
		{file: "01-shm-write-read/segment/segment.go", old: `= "ABC`, new: `= "${LETTERS}ABC`},
	},
	"03": {
		{file: "03-producer-consumer/transfer/transfer.go", old: "= 0x1234 ", new: "= $KEY "},
		{file: "03-producer-consumer/transfer/transfer.go", old: "= 0x5678 ", new: "= $SEMKEY "},
		{file: "03-producer-consumer/transfer/transfer.go", old: "= 1028 ", new: "= $SIZE "},
		{file: "03-producer-consumer/transfer/transfer.go", old: "= 1024 ", new: "= $BUFFER "},
	},
	"04": {
		{file: "04-semaphore-counter/main.go", old: "{54321, ", new: "{$KEY, "},
		{file: "04-semaphore-counter/main.go", old: `"semkey", 56789`, new: `"semkey", $SEMKEY`},
		{file: "04-semaphore-counter/table.go", old: "= 404 ", new: "= $SIZE "},
		{file: "04-semaphore-counter/table.go", old: "lines = 100 ", new: "lines = $PLACES "},
	},
	"05": {
		{file: "05-pthread-style-mutex/main.go", old: "'M'", new: "'$FTOK'"},
		{file: "05-pthread-style-mutex/main.go", old: `"n", 100,`, new: `"n", $ROUNDS,`},
		{file: "05-pthread-style-mutex/shared.go", old: "counter int32 ", new: "message [$MESSAGE]byte "},
		{file: "05-pthread-style-mutex/shared.go", old: "message [256]byte ", new: "counter int32 "},
	},
	"06": {
		{file: "06-offsets/main.go", old: "'Z'", new: "'$FTOK'"},
		{file: "06-offsets/list.go", old: "int32(i+1) * 10", new: "$V1 + int32(i)*($V2-$V1)"},
		{file: "06-offsets/walk.go", old: "  value = ", new: "  $LABEL = "},
	},
}

// TestVariants hands in our programs for a variant: as they are, when they
// have next to no points, and with the variant's values, when they have all.
func TestVariants(t *testing.T) {
	needWorlds(t)
	t.Parallel()
	for _, l := range labs {
		variants := []int{12} // it has the smallest table of 04, and the smallest buffer of 03
		if l.number == "01" {
			variants = []int{19} // its second letter is the P of "Reading Process"
		}
		if *long {
			variants = []int{7, 12, 19}
		}
		if l.number < "05" && !*long && !isSet("test.run") {
			continue // these take longer
		}
		scripts, err := readLab(l)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range variants {
			t.Run(fmt.Sprintf("%s/%d", l.number, v), func(t *testing.T) {
				t.Parallel()
				tierPoints, err := variantPoints(l)
				if err != nil {
					t.Fatal(err)
				}
				most := 0.0
				for _, points := range tierPoints {
					most += points
				}
				var got float64
				var passed []string
				for _, v := range judgeAll(scripts, (&submission{lab: l, variant: v}).judge) {
					if v.points > 0 {
						got, passed = got+v.points, append(passed, v.script.name)
					}
				}
				if got > most/10 {
					t.Errorf("our programs, as they are, have %v of %v points, by %v", got, most, passed)
				}
				got = 0
				for _, v := range judgeAll(scripts, (&submission{lab: l, variant: v, changed: ofVariant(t, l, v)}).judge) {
					got += v.points
					switch {
					case v.status == "skipped" && !v.script.needsOurs(): // this machine cannot do it
						most -= v.script.points
					case v.status != "passed" && v.status != "skipped":
						t.Errorf("%s%s", v.feedback(), v.printed)
					}
				}
				if got != most {
					t.Errorf("our programs, with the values of the variant, have %v of %v points", got, most)
				}
			})
		}
	}
}

// ofVariant builds our programs with the values of a variant.
func ofVariant(t *testing.T, l *lab, variant int) (dir string) {
	texts := map[string]string{}
	for _, b := range inOurs[l.number] {
		if texts[b.file] == "" {
			text, err := os.ReadFile(b.file)
			if err != nil {
				t.Fatal(err)
			}
			texts[b.file] = string(text)
		}
		b.new = os.Expand(b.new, func(name string) string { return l.values(variant)[name] })
		var err error
		if texts[b.file], err = b.change(texts[b.file]); err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755) // root grades as nobody
	mains, err := mainPackages(l.lesson)
	if err == nil {
		err = build(dir, l.lesson, mains, "-overlay", overlay(t, dir, texts))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
