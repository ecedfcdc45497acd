//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestStatements holds the lessons' tables of statements complete. Each of
// the 53 statements has one row, which names tests of the same number in the
// same lesson. Every test has a row. Where a statement is wrong, the row says
// what is true.
func TestStatements(t *testing.T) {
	wrong := []int{2, 4, 5, 8, 12, 16, 20, 21, 30, 31, 32, 36, 45, 51, 53}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \| (.+) \| (.*) \|$`)
	testName := regexp.MustCompile("`(TestStatement\\w+)`")
	testFunc := regexp.MustCompile(`(?m)^func (TestStatement\w+)\(`)
	rows := map[int]int{}
	lessons, _ := filepath.Glob("0[1-9]-*")
	for _, lesson := range lessons {
		unnamed := map[string]bool{} // tests that no row names
		files, _ := filepath.Glob(lesson + "/*_test.go")
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for _, m := range testFunc.FindAllSubmatch(text, -1) {
				unnamed[string(m[1])] = true
			}
		}
		text, _ := os.ReadFile(lesson + "/README.md")
		_, table, _ := strings.Cut(string(text), "## What the tutorial states\n")
		for _, m := range row.FindAllStringSubmatch(table, -1) {
			var n int
			fmt.Sscan(m[1], &n)
			rows[n]++
			isTrue := strings.HasPrefix(m[3], "true") || len(m[3]) < 10
			if slices.Contains(wrong, n) && isTrue {
				t.Errorf("%s: statement %d does not say what is true", lesson, n)
			}
			names := testName.FindAllStringSubmatch(m[4], -1)
			if len(names) == 0 {
				t.Errorf("%s: statement %d has no test", lesson, n)
			}
			for _, name := range names {
				prefix := fmt.Sprintf("TestStatement%02d", n)
				if !unnamed[name[1]] || !strings.HasPrefix(name[1], prefix) {
					t.Errorf("%s: statement %d: no test %s", lesson, n, name[1])
				}
				delete(unnamed, name[1])
			}
		}
		for name := range unnamed {
			t.Errorf("%s/README.md does not name %s", lesson, name)
		}
	}
	for n := range 53 {
		rows[n+1]--
	}
	for n, tooMany := range rows {
		if tooMany != 0 {
			t.Errorf("statement %d: %+d rows too many", n, tooMany)
		}
	}
}
