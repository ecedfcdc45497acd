//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"log"
	"time"
)

// Report prints on standard error how fast the items went through. The clock
// starts with the first item that is taken: before that a program only waits
// for the other.
func Report(items uint64, start time.Time) {
	if items == 0 {
		start = time.Now()
	}
	took := time.Since(start).Seconds()
	log.Printf("%d items in %.3f s, %.1f million a second", items, took,
		float64(items)/took/1e6)
}
