//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Meter tells how fast items go through, on standard error.
type Meter struct {
	Total uint64 // items that will go through
	Start time.Time
	next  uint64 // the count at which to look at the clock
	last  time.Time
}

// Count shows progress, once a second and only on a terminal.
func (m *Meter) Count(done uint64) {
	if done < m.next {
		return // reading the clock is expensive
	}
	m.next = done + 1<<20
	if time.Since(m.Start) < time.Second || time.Since(m.last) < time.Second {
		return
	}
	m.last = time.Now()
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	if err == nil {
		log.Printf("%d of %d items, %d %%", done, m.Total, 100*done/m.Total)
	}
}

// Report prints the rate.
func (m *Meter) Report() {
	took := time.Since(m.Start)
	log.Printf("%d items in %.3f s, %.1f million a second", m.Total,
		took.Seconds(), float64(m.Total)/took.Seconds()/1e6)
}
