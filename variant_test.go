//go:build linux

package shm_test

import (
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// The values of an assignment are keys, sizes and letters. Variant 0 has those of
// the tutorial and of our programs. Other variants have other values, so that our
// programs do not pass when they are handed in.
var (
	variant    = flag.Int("variant", 0, "grade for the assignment with this `number`")
	assignment = flag.Bool("assignment", false, "print the assignments of the labs in -only, for -variant")
)

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
		"LARGER": strconv.Itoa(4*places + 100), "SMALLER": strconv.Itoa(4*places - 100),
	}
}

func values05(variant int) map[string]string {
	letter, rounds := "M", 100
	if variant != 0 {
		r := derived(5, variant)
		letter, rounds = string('A'+rune(r.IntN(12))), 110+10*r.IntN(20)
	}
	counter := 40 // after the pthread_mutex_t
	if runtime.GOARCH == "arm64" {
		counter = 48
	}
	return map[string]string{
		"FTOK": letter, "ROUNDS": strconv.Itoa(rounds), "TOTAL": strconv.Itoa(2 * rounds),
		"COUNTER": strconv.Itoa(counter), "SIZE": strconv.Itoa(counter + 264),
		// when the grader has added 5, or 12
		"TOTAL5":  strconv.Itoa(2*rounds + 5),
		"TOTAL12": strconv.Itoa(2*rounds + 12),
	}
}

func values06(variant int) map[string]string {
	letter, first, step := "Z", 10, 10
	if variant != 0 {
		r := derived(6, variant)
		letter, first, step = string('N'+rune(r.IntN(12))), 100+r.IntN(100), 3+r.IntN(20)
	}
	v := map[string]string{"FTOK": letter, "OTHERKEY": "0x6f66", "OTHERKEY2": "0x6f67"}
	for i := range 3 {
		v[fmt.Sprintf("V%d", i+1)] = strconv.Itoa(first + i*step)
	}
	return v
}

// phrases are pairs: the words in which ASSIGNMENT.md of a lab gives a value of
// variant 0, and the words that replace them in another variant.
var phrases = map[string][][2]string{
	"01": {
		{"0x1234", "$KEY"}, {"4660", "$KEYNUMBER"}, {"1032", "$SIZE"}, {"1024", "$BUFFER"},
		{"1023", "$BLOCK"}, {"A, B, C, D and E", "$L1, $L2, $L3, $L4 and $L5"},
		{"A to E", "$L1 to $L5"}, {"AAAA…", "$L1$L1$L1$L1…"}, {"BBBB…", "$L2$L2$L2$L2…"},
	},
	"03": {
		{"0x1234", "$KEY"}, {"4660", "$KEYNUMBER"}, {"0x5678", "$SEMKEY"},
		{"22136", "$SEMKEYNUMBER"}, {"1028", "$SIZE"}, {"1024", "$BUFFER"},
		{"1023", "$ONELESS"}, {"1025", "$ONEMORE"},
	},
	"04": {
		{"54321", "$KEY"}, {"0xd431", "$KEYHEX"}, {"56789", "$SEMKEY"}, {"0xddd5", "$SEMKEYHEX"},
		{"404", "$SIZE"}, {"400", "$COUNT"}, {"100", "$PLACES"},
	},
	"05": {
		{"'M'", "'$FTOK'"}, {"100 times", "$ROUNDS times"}, {"100 additions", "$ROUNDS additions"},
		{"= 200 (expected 200)", "= $TOTAL (expected $TOTAL)"}, {"`expected 200`", "`expected $TOTAL`"},
		{"the sum is 200", "the sum is $TOTAL"},
	},
	"06": {
		{"'Z'", "'$FTOK'"}, {"10, 20 and 30", "$V1, $V2 and $V3"}, {"10, 20, 30", "$V1, $V2, $V3"},
		{"value = 10", "value = $V1"}, {"value = 20", "value = $V2"}, {"value = 30", "value = $V3"},
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
	page := regexp.MustCompile(strings.Join(old, "|")).ReplaceAllStringFunc(string(text),
		func(found string) string { return instead[found] })
	title, rest, _ := strings.Cut(page, "\n")
	return fmt.Sprintf("%s (variant %d)\n\nIn this variant the checks that pair your programs with ours are "+
		"left out, and their points do not count. The variant has its own keys and sizes. What the page "+
		"says about the keys of another lab holds for variant 0.\n%s", title, variant,
		strings.ReplaceAll(rest, "go test -lab DIR", fmt.Sprintf("go test -lab DIR -variant %d", variant))), nil
}

// asWord is a pattern that finds a phrase, but not inside a word or a number.
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
