//go:build linux

package shm_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The values of an assignment: keys, sizes and letters. Variant 0 is the
// tutorial's, which our programs have; another number gives other ones, so
// that our programs, handed in, do not pass.
var variant = flag.Int("variant", 0, "grade for the assignment with this `number`")

// derived gives numbers that follow from a lab and a variant alone.
func derived(lab uint64, variant int) *rand.Rand {
	return rand.New(rand.NewPCG(lab, uint64(variant)))
}

// hexKey is a key whose four hexadecimal digits are decimal ones, as in
// 0x1234: so the mistake 1234 can be told.
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
	}
	// Sizes of wrong layouts: without complete, and with 8 bytes for each number.
	v["SIZE4"], v["SIZE16"] = strconv.Itoa(4+buffer), strconv.Itoa(16+buffer)
	v["HALF"], v["REST"] = strconv.Itoa(buffer/2), strconv.Itoa(buffer-1-buffer/2)
	v["HALFBLOCK"] = strings.Repeat(string(first+1), buffer/2)
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
		"PLACES": strconv.Itoa(places), "COUNT": strconv.Itoa(4 * places),
		"SIZE": strconv.Itoa(4*places + 4),
	}
}

func values05(variant int) map[string]string {
	letter, rounds := "M", 100
	if variant != 0 {
		r := derived(5, variant)
		letter, rounds = string('A'+rune(r.IntN(12))), 110+10*r.IntN(20)
	}
	return map[string]string{
		"FTOK": letter, "ROUNDS": strconv.Itoa(rounds), "TOTAL": strconv.Itoa(2 * rounds),
	}
}

func values06(variant int) map[string]string {
	letter, first, step := "Z", 10, 10
	if variant != 0 {
		r := derived(6, variant)
		letter, first, step = string('N'+rune(r.IntN(12))), 100+r.IntN(100), 3+r.IntN(20)
	}
	v := map[string]string{"FTOK": letter}
	for i := range 3 {
		v[fmt.Sprintf("V%d", i+1)] = strconv.Itoa(first + i*step)
	}
	return v
}
