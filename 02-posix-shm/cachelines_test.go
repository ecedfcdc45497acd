//go:build linux

package main_test

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Two CPUs that each write a variable of their own are faster if the two
// variables lie in separate cache lines. Two threads do here what producer
// and consumer do with their indices.
func TestStatement38SeparateCacheLines(t *testing.T) {
	cpus := usableCPUs(t)
	a, b := cpus[0], cpus[len(cpus)-1] // neighbours may be one core
	if a == b {
		t.Skip("needs two CPUs")
	}
	mem := mapObject(t, newObject(t, pageSize), pageSize, 0)
	word := func(offset int) *int32 {
		return (*int32)(unsafe.Pointer(&mem[offset]))
	}
	const additions = 20_000
	timeOfAdditions := func(distance int) float64 {
		return medianTime(t, a, b, func(i int) {
			for range additions {
				atomic.AddInt32(word(i*distance), 1)
			}
		})
	}
	ratio, apart := 0.0, 0.0
	end := time.Now().Add(3 * time.Second)
	for ratio < 2 && time.Now().Before(end) {
		apart = timeOfAdditions(256)
		ratio = timeOfAdditions(4) / apart
	}
	t.Logf("in one cache line: %.1f times as long", ratio)
	if ratio >= 2 {
		return
	}
	// Perhaps the CPUs have a cache in common: they may be two threads of one
	// core, or of an emulator. Then they also answer each other in the time
	// of a few additions. From core to core it is the time of 13 to 20.
	const turns = 1000
	turn := word(0)
	atomic.StoreInt32(turn, 0)
	answer := medianTime(t, a, b, func(i int) {
		for range turns {
			for atomic.LoadInt32(turn)%2 != int32(i) {
			}
			atomic.AddInt32(turn, 1)
		}
	}) / turns
	if answer < 12*apart/additions {
		t.Skipf("needs two CPUs with caches of their own: "+
			"these answer each other in %.0f ns", answer*1e9)
	}
	t.Errorf("in one cache line %.1f times as long, want 2 at least", ratio)
}

// usableCPUs lists the CPUs that this process may use.
func usableCPUs(t testing.TB) (cpus []int) {
	t.Helper()
	var set unix.CPUSet
	want(t, "sched_getaffinity", unix.SchedGetaffinity(0, &set), nil)
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// medianTime returns how many seconds it takes to do something on two CPUs at
// the same time.
func medianTime(t *testing.T, a, b int, do func(i int)) float64 {
	t.Helper()
	var all []float64
	for end := time.Now().Add(10 * time.Second); len(all) < 15; {
		if time.Now().After(end) {
			t.Skip("needs two CPUs at the same time: others use them")
		}
		if seconds, ok := atOnce(a, b, do); ok {
			all = append(all, seconds)
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// atOnce does something on two CPUs and returns how long that took. It is not
// ok if the two did not run at the same time.
func atOnce(a, b int, do func(i int)) (seconds float64, ok bool) {
	var ready atomic.Int32
	var done sync.WaitGroup
	var began, ended [2]time.Time
	onTime := [2]bool{true, true}
	for i, cpu := range []int{a, b} {
		done.Go(func() {
			runtime.LockOSThread() // for ever: no other goroutine runs here
			var set unix.CPUSet
			set.Set(cpu)
			unix.SchedSetaffinity(0, &set)
			ready.Add(1)
			for start := time.Now(); ready.Load() < 2; {
				if time.Since(start) > 50*time.Millisecond {
					onTime[i] = false
					break
				}
			}
			before := threadTime()
			began[i] = time.Now()
			do(i)
			ended[i] = time.Now()
			// If it ran for less time than it took, another thread had the
			// CPU meanwhile.
			took := ended[i].Sub(began[i])
			onTime[i] = onTime[i] && threadTime()-before > took*9/10
		})
	}
	done.Wait()
	took := max(ended[0].Sub(began[0]), ended[1].Sub(began[1]))
	late := began[1].Sub(began[0]).Abs()
	return took.Seconds(), onTime[0] && onTime[1] && late < took/4
}

// threadTime returns how long this thread has run.
func threadTime() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}
