//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// piece is how many bytes of a block go into one message of a queue. It is the
// limit for ordinary users. See msgmax in proc_sys_kernel(5) and msgsize_max in
// mq_overview(7).
const piece = 8192

// queue is an endpoint of a message queue. A large block goes in pieces, each
// in a message of its own. A System V message has its type in the 8 bytes
// before its text. Before the second piece, these are the last 8 bytes of the
// first piece, and so on. So receive saves them before get writes there.
type queue struct {
	out, in []byte // a block from byte 8 on; in has room for one piece more
	put     func(message []byte) unix.Errno
	get     func(message []byte) (n int, errno unix.Errno)
}

func newQueue() *queue {
	return &queue{out: make([]byte, 8+most),
		in: make([]byte, 8+most+piece)}
}

func (q *queue) room(size int) ([]byte, error) { return q.out[8:][:size], nil }

func (q *queue) send(size int) error {
	for done := 0; done < size; {
		next := min(done+piece, size)
		calls++
		errno := q.put(q.out[done : 8+next])
		if errno == 0 {
			done = next
		} else if errno != unix.EINTR { // Go's own signals interrupt it, too
			return fmt.Errorf("sending a message: %w", errno)
		}
	}
	return nil
}

func (q *queue) receive(size int) ([]byte, error) {
	for done := 0; done < size; {
		last := [8]byte(q.in[done:]) // get writes the type over these bytes
		calls++
		n, errno := q.get(q.in[done : 8+done+piece])
		copy(q.in[done:], last[:])
		if errno == 0 {
			done += n
		} else if errno != unix.EINTR {
			return nil, fmt.Errorf("receiving a message: %w", errno)
		}
	}
	return q.in[8:][:size], nil
}

func (q *queue) release() error { return nil }

// createQueue creates one System V queue for both directions. The type of a
// message tells its direction. See msgget(2).
func createQueue() (o objects, err error) {
	id, _, errno := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE,
		unix.IPC_CREAT|0o600, 0)
	if errno != 0 {
		return o, fmt.Errorf("msgget: %w", errno)
	}
	o.id = int(id)
	return o, nil
}

func removeQueue(id int) {
	unix.Syscall(unix.SYS_MSGCTL, uintptr(id), unix.IPC_RMID, 0)
}

func joinQueue(me, id int) (endpoint, error) {
	q := newQueue()
	q.put = func(message []byte) unix.Errno {
		binary.NativeEndian.PutUint64(message, uint64(1+me)) // its type
		_, _, errno := unix.Syscall6(unix.SYS_MSGSND, uintptr(id),
			uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)-8),
			0, 0, 0)
		return errno
	}
	q.get = func(message []byte) (int, unix.Errno) {
		n, _, errno := unix.Syscall6(unix.SYS_MSGRCV, uintptr(id),
			uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)-8),
			uintptr(2-me), 0, 0)
		return int(n), errno
	}
	return q, nil
}

// createMQ creates two POSIX queues, one for each direction, and removes their
// names: the descriptors are enough. See mq_open(3).
func createMQ() (o objects, err error) {
	for me := range 2 {
		name := fmt.Appendf(nil, "compare-%d-%d\x00", os.Getpid(), me)
		attr := struct{ flags, maxmsg, msgsize, curmsgs, _, _, _, _ int64 }{
			maxmsg: slots, msgsize: piece}
		fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN,
			uintptr(unsafe.Pointer(&name[0])),
			unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600,
			uintptr(unsafe.Pointer(&attr)), 0, 0)
		if errno != 0 {
			o.close()
			if errno == unix.EMFILE {
				return o, fmt.Errorf("mq_open: %w\nulimit -q says how many "+
					"bytes a user's queues may take", errno)
			}
			return o, fmt.Errorf("mq_open: %w", errno)
		}
		unix.Syscall(unix.SYS_MQ_UNLINK,
			uintptr(unsafe.Pointer(&name[0])), 0, 0)
		f := os.NewFile(fd, "queue")
		o.files[me] = append(o.files[me], f)
		o.files[1-me] = append(o.files[1-me], f)
	}
	return o, nil
}

// joinMQ has its descriptors in the same order as joinPipes.
func joinMQ(me, _ int) (endpoint, error) {
	q := newQueue()
	out, in := uintptr(3+me), uintptr(4-me)
	q.put = func(message []byte) unix.Errno {
		_, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, out,
			uintptr(unsafe.Pointer(&message[8])), uintptr(len(message)-8),
			0, 0, 0)
		return errno
	}
	q.get = func(message []byte) (int, unix.Errno) {
		n, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, in,
			uintptr(unsafe.Pointer(&message[8])), uintptr(len(message)-8),
			0, 0, 0)
		return int(n), errno
	}
	return q, nil
}
