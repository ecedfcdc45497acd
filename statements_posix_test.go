//go:build linux

package shm_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The life of an object: shm_open, ftruncate, mmap, munmap, close and
// shm_unlink, in C's library names.
func TestStatement34LifeOfAnObject(t *testing.T) {
	parallel(t)
	name := newName()
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|
		unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	want(t, "shm_open", err, nil)
	defer os.Remove(name)
	var st unix.Stat_t
	if unix.Fstat(fd, &st); st.Size != 0 {
		t.Errorf("a new object has %d bytes, want 0", st.Size)
	}
	want(t, "ftruncate", unix.Ftruncate(fd, 34), nil)
	mem, err := unix.Mmap(fd, 0, 34, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	want(t, "mmap", err, nil)
	copy(mem, "hello")
	want(t, "close", unix.Close(fd), nil)
	want(t, "shm_unlink", unix.Unlink(name), nil)
	if got := string(mem[:5]); got != "hello" { // the mapping is still there
		t.Errorf("%q, want hello", got)
	}
	want(t, "munmap", unix.Munmap(mem), nil)
	_, err = unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	want(t, "shm_open of what is gone", err, unix.ENOENT)
}

// MAP_POPULATE faults the pages in beforehand; without it, each first touch
// is a fault.
func TestStatement35Populate(t *testing.T) {
	parallel(t)
	runtime.LockOSThread() // whose faults are counted
	defer runtime.UnlockOSThread()
	const pages = 64
	touch := func(flags int) int64 {
		size := pages * pageSize
		mem := newView(t, newObject(t, size), size, flags)
		before := pageFaults()
		for page := range pages {
			mem[page*pageSize] = 1
		}
		return pageFaults() - before
	}
	if n := touch(unix.MAP_POPULATE); n > pages/4 {
		t.Errorf("populated: %d faults for %d pages, want none", n, pages)
	}
	if n := touch(0); n < pages {
		t.Errorf("not populated: %d faults for %d pages", n, pages)
	}
}

// "MAP_HUGETLB gives huge pages, else fall back": on an object of shm_open it
// always fails, even if huge pages are free; it wants a file of hugetlbfs.
func TestStatement36NoHugePages(t *testing.T) {
	parallel(t)
	const size = 2 << 20
	f := newObject(t, size)
	_, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_HUGETLB)
	want(t, "mmap MAP_HUGETLB", err, unix.EINVAL)
	newView(t, f, size, 0)
}

// mlock brings pages into memory and keeps them there: the kernel refuses to
// write them out. (SHM_LOCK only does the second.)
func TestStatement37Mlock(t *testing.T) {
	parallel(t)
	f := newObject(t, pageSize)
	mem := newView(t, f, pageSize, 0)
	want(t, "MADV_PAGEOUT", unix.Madvise(mem, unix.MADV_PAGEOUT), nil)
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st); st.Blocks != 0 {
		t.Errorf("%d blocks in memory before the first touch", st.Blocks)
	}
	if err := unix.Mlock(mem); err == unix.EPERM || err == unix.ENOMEM {
		t.Skipf("needs to lock memory (ulimit -l): %v", err)
	} else {
		want(t, "mlock", err, nil)
	}
	if unix.Fstat(int(f.Fd()), &st); st.Blocks == 0 {
		t.Errorf("no blocks in memory after mlock")
	}
	want(t, "MADV_PAGEOUT when locked", unix.Madvise(mem, unix.MADV_PAGEOUT), unix.EINVAL)
}

// Two processes that each write a variable of their own are faster if these
// are in separate cache lines. Here two threads do, on two processors.
func TestStatement38SeparateCacheLines(t *testing.T) {
	a, b := twoCores(t)
	mem := attach(t, newSegment(t, pageSize), 0)
	writes := func(distance int) float64 {
		return medianTime(t, a, b, func(i int) {
			for range 20_000 {
				atomic.AddInt32(int32At(mem, i*distance), 1)
			}
		})
	}
	ratio := 0.0
	for end := time.Now().Add(3 * time.Second); ratio < 2 && time.Now().Before(end); {
		ratio = writes(4) / writes(256)
	}
	t.Logf("in one cache line: %.1f times as long", ratio)
	if ratio >= 2 {
		return
	}
	// The processors of a virtual machine may for a while be one in truth, with
	// one cache. Then a line does not travel when they write it in turn.
	const turns = 1000
	turn := int32At(mem, 0)
	atomic.StoreInt32(turn, 0)
	trip := medianTime(t, a, b, func(i int) {
		for range turns {
			for atomic.LoadInt32(turn)%2 != int32(i) {
			}
			atomic.AddInt32(turn, 1)
		}
	}) / turns
	if trip < 60e-9 {
		t.Skipf("needs two processors: these share a cache, %.0f ns there and back", trip*1e9)
	}
	t.Errorf("in one cache line %.1f times as long, want 2 at least", ratio)
}

// medianTime is how many seconds it takes to do something on two processors
// at once.
func medianTime(t *testing.T, a, b int, do func(i int)) float64 {
	t.Helper()
	var all []float64
	for end := time.Now().Add(3 * time.Second); len(all) < 15; {
		if time.Now().After(end) {
			t.Skip("needs two processors at once, and others use them")
		}
		if d, ok := atOnce(a, b, do); ok {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// atOnce does something on two processors, and returns how long that took. It
// is not ok if the two did not run at once.
func atOnce(a, b int, do func(i int)) (seconds float64, ok bool) {
	var ready atomic.Int32
	var done sync.WaitGroup
	var began, ended [2]time.Time
	onTime := [2]bool{true, true}
	for i, processor := range []int{a, b} {
		done.Go(func() {
			runtime.LockOSThread() // and never unlocks: the thread ends
			var set unix.CPUSet
			set.Set(processor)
			unix.SchedSetaffinity(0, &set)
			ready.Add(1)
			for patience := time.Now(); ready.Load() < 2; {
				if time.Since(patience) > 50*time.Millisecond {
					onTime[i] = false
					break
				}
			}
			cpu := cpuTime()
			began[i] = time.Now()
			do(i)
			ended[i] = time.Now()
			// Time that was not ours means that another had the processor.
			wall := ended[i].Sub(began[i])
			onTime[i] = onTime[i] && cpuTime()-cpu > wall*9/10
		})
	}
	done.Wait()
	took := max(ended[0].Sub(began[0]), ended[1].Sub(began[1]))
	late := began[1].Sub(began[0]).Abs()
	return took.Seconds(), onTime[0] && onTime[1] && late < took/4
}

// cpuTime is what this thread has used.
func cpuTime() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}

// twoCores are two processors that share no core, and so no cache line.
func twoCores(t *testing.T) (a, b int) {
	var set unix.CPUSet
	want(t, "sched_getaffinity", unix.SchedGetaffinity(0, &set), nil)
	a = -1
	for cpu := range int(unsafe.Sizeof(set)) * 8 {
		if !set.IsSet(cpu) {
			continue
		}
		if a < 0 {
			a = cpu
		} else if core(a) != core(cpu) {
			return a, cpu
		}
	}
	t.Skip("needs two processor cores")
	return
}

func core(cpu int) string {
	dir := "/sys/devices/system/cpu/cpu" + strconv.Itoa(cpu) + "/topology/"
	siblings, err := os.ReadFile(filepath.Join(dir, "thread_siblings_list"))
	if err != nil {
		return strconv.Itoa(cpu)
	}
	return string(siblings)
}
