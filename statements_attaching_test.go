//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// With the address NULL the kernel chooses one that is free.
func TestStatement09KernelChooses(t *testing.T) {
	parallel(t)
	id := newSegment(t, 1)
	a, b := attach(t, id, 0), attach(t, id, 0)
	if addressOf(a) == 0 || addressOf(a) == addressOf(b) || addressOf(a)%uintptr(pageSize) != 0 {
		t.Errorf("addresses %#x and %#x", addressOf(a), addressOf(b))
	}
}

// An address that the program chooses may be taken: then shmat fails.
func TestStatement10AddressTaken(t *testing.T) {
	parallel(t)
	taken := newMapping(t, pageSize)
	_, err := attachAt(newSegment(t, 1), addressOf(taken), 0)
	want(t, "shmat at an address in use", err, unix.EINVAL)
}

// Without SHM_RND the address must be that of a page. (SHM_REMAP is here for
// a place that is certainly free: one of our own.)
func TestStatement11PageAligned(t *testing.T) {
	parallel(t)
	id, place := newSegment(t, 1), newMapping(t, pageSize)
	_, err := attachAt(id, addressOf(place)+8, shmRemap)
	want(t, "shmat 8 bytes into a page", err, unix.EINVAL)
	_, err = attachAt(id, addressOf(place), shmRemap)
	want(t, "shmat at a page", err, nil)
}

// "SHM_RND takes the nearest multiple of SHMLBA": it rounds down, even one
// byte below the next.
func TestStatement12RoundsDown(t *testing.T) {
	parallel(t)
	page := uintptr(pageSize)
	place := newMapping(t, 16*pageSize)
	asked := addressOf(place) + 9*page - 1
	got, err := attachAt(newSegment(t, 1), asked, unix.SHM_RND|shmRemap)
	want(t, "shmat", err, nil)
	if got > asked || got%page != 0 || asked-got < page-1 {
		t.Errorf("asked for %#x, got %#x", asked, got)
	}
}

// After SHM_RDONLY a write is a fault, SIGSEGV; a read is none.
func TestStatement13ReadOnly(t *testing.T) {
	parallel(t)
	mem := attach(t, newSegment(t, 100), unix.SHM_RDONLY)
	if at := faultAt(func() { _ = *(*byte)(unsafe.Pointer(&mem[5])) }); at != 0 {
		t.Errorf("reading faulted at %#x", at)
	}
	if at := faultAt(func() { mem[5] = 1 }); at != uintptr(unsafe.Pointer(&mem[5])) {
		t.Errorf("writing faulted at %#x, want %p", at, &mem[5])
	}
}

// SHM_EXEC lets the contents be executed; without it that is a fault. The
// mode must allow it, too.
func TestStatement14Executable(t *testing.T) {
	parallel(t)
	id := newSegmentMode(t, unix.IPC_PRIVATE, pageSize, 0o700)
	data := attach(t, id, 0)
	copy(data, map[string]string{ // a function that returns at once
		"amd64":   "\xc3",
		"arm64":   "\xc0\x03\x5f\xd6",
		"riscv64": "\x67\x80\x00\x00",
	}[runtime.GOARCH])
	code := attach(t, id, shmExec)
	if _, perms, _ := mapping(t, addressOf(code)); perms != "rwxs" {
		t.Errorf("mapped %s, want rwxs", perms)
	}
	if data[0] == 0 {
		t.Skipf("needs to know a machine instruction of %s", runtime.GOARCH)
	}
	if at := faultAt(func() { execute(code) }); at != 0 {
		t.Errorf("with SHM_EXEC: a fault at %#x", at)
	}
	if at := faultAt(func() { execute(data) }); at != addressOf(data) {
		t.Errorf("without: a fault at %#x, want %#x", at, addressOf(data))
	}
}

// execute takes what is in memory for a function, and calls it. A func of Go is
// a pointer to a pointer to the code.
func execute(code []byte) {
	pointer := &struct{ code *byte }{&code[0]}
	(*(*func())(unsafe.Pointer(&pointer)))()
}

// SHM_REMAP replaces what is mapped at the address; without it, that fails.
func TestStatement15Remap(t *testing.T) {
	parallel(t)
	id := newSegment(t, pageSize)
	*int32At(attach(t, id, 0), 0) = 15
	place := newMapping(t, pageSize)
	_, err := attachAt(id, addressOf(place), 0)
	want(t, "shmat", err, unix.EINVAL)
	_, err = attachAt(id, addressOf(place), shmRemap)
	want(t, "shmat SHM_REMAP", err, nil)
	if got := *int32At(place, 0); got != 15 {
		t.Errorf("%d is there, want the segment's 15", got)
	}
}

// "SHM_SHARE_MMU": a flag of Solaris. Its number is that of SHM_REMAP here,
// which without an address is refused.
func TestStatement16NoShareMMU(t *testing.T) {
	parallel(t)
	const solarisShareMMU = 0o40000
	_, err := attachAt(newSegment(t, 1), 0, solarisShareMMU)
	want(t, "shmat", err, unix.EINVAL)
}

// shmdt takes the address that shmat returned, and no other.
func TestStatement17DetachTakesTheAddress(t *testing.T) {
	if !apart(t, job{}) {
		return // where another test may be attached at the old address
	}
	id := newSegment(t, 2*pageSize)
	mem := attach(t, id, 0)
	want(t, "shmdt of the second page", unix.SysvShmDetach(mem[pageSize:]), unix.EINVAL)
	wantAttaches(t, id, 1)
	detach(t, mem)
	wantAttaches(t, id, 0)
	want(t, "shmdt once more", unix.SysvShmDetach(mem), unix.EINVAL)
}

// A process may attach a segment several times, each at an address of its
// own. Each counts, and each is detached by itself.
func TestStatement18AttachedTwice(t *testing.T) {
	parallel(t)
	id := newSegment(t, 4)
	a, b := attach(t, id, 0), attach(t, id, 0)
	wantAttaches(t, id, 2)
	*int32At(a, 0) = 18
	if got := *int32At(b, 0); got != 18 {
		t.Errorf("%d at the other address, want 18", got)
	}
	detach(t, a)
	wantAttaches(t, id, 1)
	if got := *int32At(b, 0); got != 18 {
		t.Errorf("%d after the first was detached, want 18", got)
	}
}

// Two processes have the same physical page, at different addresses.
func TestStatement19SamePagesOtherAddress(t *testing.T) {
	parallel(t)
	id := newSegment(t, 4)
	mem := attach(t, id, 0)
	*int32At(mem, 0) = 19
	other := newPeer(t)
	if at := other.attach(id, mem); at == addressOf(mem) {
		t.Errorf("both are at %#x", at)
	}
	if got := other.load(0); got != 19 {
		t.Errorf("the other reads %d, want 19", got)
	}
	ours, theirs := frame(mem), other.ask("frame")
	if ours != theirs {
		t.Errorf("physical pages %#x and %#x", ours, theirs)
	}
	if ours == 0 {
		t.Log("the pages' numbers are for CAP_SYS_ADMIN only")
	}
}

// "Without shmdt shm_nattch stays above 0": the end of the process detaches,
// also that by kill -9.
func TestStatement20ExitDetaches(t *testing.T) {
	parallel(t)
	id := newSegment(t, 1)
	for _, end := range []func(*peer){
		func(p *peer) { p.end() },
		func(p *peer) { p.kill(unix.SIGKILL) },
	} {
		other := newPeer(t)
		other.attach(id, nil)
		wantAttaches(t, id, 1)
		end(other)
		wantAttaches(t, id, 0)
	}
}

// "shm_nattch is the number of processes": of attaches, or mappings. This is
// one process, with two, and then with three.
func TestStatement21CountsAttaches(t *testing.T) {
	parallel(t)
	id := newSegment(t, 2*pageSize)
	attach(t, id, 0)
	mem := attach(t, id, 0)
	wantAttaches(t, id, 2)
	// Other rights for one of its pages split a mapping into two.
	want(t, "mprotect", unix.Mprotect(mem[pageSize:], unix.PROT_READ), nil)
	wantAttaches(t, id, 3)
	want(t, "mprotect", unix.Mprotect(mem[pageSize:], unix.PROT_READ|unix.PROT_WRITE), nil)
}

// A child of fork inherits the attachments, without a call. What exec starts
// has none.
func TestStatement52ForkInheritsExecDoesNot(t *testing.T) {
	if !apart(t, job{}) {
		return // fork inherits also what other tests have attached
	}
	id := newSegment(t, 1)
	attach(t, id, 0)
	wantAttaches(t, id, 1)
	sleep, err := exec.LookPath("sleep")
	want(t, "sleep", err, nil)
	child := fork(t, sleep, "sleep", "60")
	wantAttaches(t, id, 2)
	if name := child.exec(); name != "sleep" {
		t.Errorf("it runs %q, want sleep", name)
	}
	wantAttaches(t, id, 1)
}

// A forked is a child that fork made, which Go programs do not do: it may
// make system calls and nothing else. It calls exec when it is told to.
type forked struct{ pid, tell, gone int }

func fork(t *testing.T, path string, args ...string) forked {
	t.Helper()
	var p, q [2]int // to tell it to go on, and to see that it did
	want(t, "pipe", unix.Pipe2(p[:], unix.O_CLOEXEC), nil)
	want(t, "pipe", unix.Pipe2(q[:], unix.O_CLOEXEC), nil)
	program, err := unix.BytePtrFromString(path)
	want(t, "path", err, nil)
	argv, err := syscall.SlicePtrFromStrings(args)
	want(t, "arguments", err, nil)
	var b [1]byte
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if errno == 0 && pid == 0 {
		unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
		unix.RawSyscall(unix.SYS_READ, uintptr(p[0]), uintptr(unsafe.Pointer(&b)), 1)
		unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(program)),
			uintptr(unsafe.Pointer(&argv[0])), 0)
		for {
			unix.RawSyscall(unix.SYS_EXIT, 1, 0, 0)
		}
	}
	if errno != 0 {
		t.Fatalf("fork: %v", errno)
	}
	unix.Close(p[0])
	unix.Close(q[1])
	t.Cleanup(func() {
		unix.Kill(int(pid), unix.SIGKILL)
		unix.Wait4(int(pid), nil, 0, nil)
		unix.Close(p[1])
		unix.Close(q[0])
	})
	return forked{int(pid), p[1], q[0]}
}

// exec lets it call exec, which closes the pipe that it inherited, and
// returns the name of the program that it is now.
func (f forked) exec() string {
	unix.Write(f.tell, []byte{1})
	unix.Read(f.gone, make([]byte, 1))
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", f.pid))
	return strings.TrimSpace(string(name))
}
