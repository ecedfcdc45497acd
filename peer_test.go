//go:build linux

package shm_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A peer is the other process: it does what the test asks for, one thing
// after the other.
type peer struct {
	t       *testing.T
	cmd     *exec.Cmd
	in, out *os.File
	answers *bufio.Reader
}

// newPeer starts another process, which ends with the test at the latest.
func newPeer(t *testing.T) *peer {
	t.Helper()
	return newPeerIn(t, job{})
}

// newPeerIn starts it as the job says: in a room, or as another user.
func newPeerIn(t *testing.T, j job) *peer {
	t.Helper()
	j.Peer = []string{"obey"}
	cmd, err := j.command()
	if err != nil {
		t.Fatal(err)
	}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stdout
	err = j.start(cmd)
	stdin.Close()
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	noteJob(cmd.Process.Pid)
	p := &peer{t, cmd, in, out, bufio.NewReader(out)}
	t.Cleanup(p.end)
	return p
}

// end lets it end by itself, as by an exit without any shmdt.
func (p *peer) end() {
	p.in.Close()
	p.cmd.Wait()
}

// kill ends it by a signal.
func (p *peer) kill(signal unix.Signal) {
	p.cmd.Process.Signal(signal)
	p.cmd.Wait()
}

// try has it do something and returns its answer, which may be an error.
func (p *peer) try(words ...any) string {
	p.t.Helper()
	fmt.Fprintln(p.in, words...)
	return p.answer()
}

func (p *peer) answer() string {
	p.t.Helper()
	p.out.SetReadDeadline(time.Now().Add(untilTime))
	line, err := p.answers.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the peer did not answer: %q, %v", line, err)
	}
	return strings.TrimSpace(line)
}

// ask has it do something that succeeds, and returns the number it answers.
func (p *peer) ask(words ...any) int {
	p.t.Helper()
	answer := p.try(words...)
	n, err := strconv.Atoi(answer)
	if err != nil {
		p.t.Fatalf("the peer: %v: %s", words, answer)
	}
	return n
}

// attach has it attach a segment, at another address than here.
func (p *peer) attach(id int, here []byte) (address uintptr) {
	p.t.Helper()
	for address == 0 || here != nil && address == addressOf(here) {
		address = uintptr(p.ask("attach", id))
	}
	return address
}

func (p *peer) store(offset int, value int32) { p.t.Helper(); p.ask("store", offset, value) }
func (p *peer) load(offset int) int32         { p.t.Helper(); return int32(p.ask("load", offset)) }

// doPeer is the other process.
func (j job) doPeer() int {
	if j.Peer[0] == "exchange" {
		id, _ := strconv.Atoi(j.Peer[2])
		return doExchange(j.Peer[1], id)
	}
	var mem []byte // what was attached last
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		n := make([]int, 3) // the arguments, as numbers
		for i, word := range words[1:] {
			n[i], _ = strconv.Atoi(word)
		}
		answer, err := 0, error(nil)
		switch words[0] {
		case "attach":
			if mem, err = unix.SysvShmAttach(n[0], 0, 0); err == nil {
				answer = int(addressOf(mem))
			}
		case "load":
			answer = int(atomic.LoadInt32(int32At(mem, n[0])))
		case "store":
			atomic.StoreInt32(int32At(mem, n[0]), int32(n[1]))
		case "fill": // touch all of it
			for i := range mem {
				mem[i] = 1
			}
		case "frame":
			answer = frame(mem)
		case "make": // a segment
			answer, err = unix.SysvShmGet(n[0], n[1], unix.IPC_CREAT|unix.IPC_EXCL|0o600)
		case "find":
			answer, err = unix.SysvShmGet(n[0], 0, 0)
		case "ftok":
			answer, err = ftok(words[1], n[1])
		case "take": // semaphore 0 of a set, without waiting
			err = semop(n[0], 0, -1, unix.IPC_NOWAIT)
		case "object": // a POSIX object
			err = os.WriteFile(words[1], []byte("still here"), 0o600)
		case "load-on-signal": // the value that is there when the signal comes
			c := make(chan os.Signal, 1)
			signal.Notify(c, unix.SIGUSR1)
			fmt.Println("ready")
			<-c
			answer = int(*int32At(mem, n[0]))
		case "clean-up-at-the-end": // what atexit does in C
			defer unix.SysvShmCtl(n[0], unix.IPC_RMID, nil)
		default:
			err = fmt.Errorf("the peer cannot %q", words)
		}
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println(answer)
		}
	}
	return passed
}

func int32At(mem []byte, offset int) *int32 {
	return (*int32)(unsafe.Pointer(&mem[offset]))
}

func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(&mem[0])) }

// ftok is the function of C's library: part of the inode's number, part of
// the device's, and the low byte of id.
func ftok(path string, id int) (int, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return int(st.Ino&0xffff) | int(st.Dev&0xff)<<16 | id&0xff<<24, err
}

// frame is the number of the physical page at mem, or 0 if the kernel does
// not tell this process.
func frame(mem []byte) int {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0
	}
	defer f.Close()
	var entry [8]byte
	at := int64(addressOf(mem)) / int64(os.Getpagesize()) * 8
	if _, err := f.ReadAt(entry[:], at); err != nil && err != io.EOF {
		return 0
	}
	return int(*(*uint64)(unsafe.Pointer(&entry[0])) & (1<<55 - 1))
}

// semop adds n to a semaphore of a set, and waits until it can.
func semop(id, number, n, flags int) error {
	op := [3]int16{int16(number), int16(n), int16(flags)}
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(id), uintptr(unsafe.Pointer(&op)), 1)
		if errno == 0 {
			return nil
		} else if errno != unix.EINTR {
			return errno
		}
	}
}
