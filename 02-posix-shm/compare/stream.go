//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stream is an endpoint that is read and written. The kernel copies a block
// twice, into its own memory and out of it. The calls go straight to the
// kernel, not through Go's poller.
type stream struct {
	out, in         int // descriptors
	outData, inData []byte
}

func newStream(out, in int) (endpoint, error) {
	return &stream{out, in, make([]byte, most), make([]byte, most)}, nil
}

func (s *stream) room(size int) ([]byte, error) {
	return s.outData[:size], nil
}

func (s *stream) send(size int) error {
	for rest := s.outData[:size]; len(rest) > 0; {
		calls++
		n, err := unix.Write(s.out, rest)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("write: %w", err)
		}
		rest = rest[max(n, 0):]
	}
	return nil
}

func (s *stream) receive(size int) ([]byte, error) {
	for rest := s.inData[:size]; len(rest) > 0; {
		calls++
		n, err := unix.Read(s.in, rest)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("read: %w", err)
		}
		rest = rest[max(n, 0):]
	}
	return s.inData[:size], nil
}

func (s *stream) release() error { return nil }

// createPipes creates two pipes, since a pipe has one direction. See pipe(2).
func createPipes() (o objects, err error) {
	for me := range 2 {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			o.close()
			return o, fmt.Errorf("pipe: %w", err)
		}
		r := os.NewFile(uintptr(fds[0]), "pipe")
		w := os.NewFile(uintptr(fds[1]), "pipe")
		o.files[me] = append(o.files[me], w)
		o.files[1-me] = append(o.files[1-me], r)
	}
	return o, nil
}

// joinPipes opens nothing. Process 0 writes to descriptor 3 and reads from 4.
// Process 1 writes to 4 and reads from 3.
func joinPipes(me, _ int) (endpoint, error) { return newStream(3+me, 4-me) }

func joinSocket(_, _ int) (endpoint, error) { return newStream(3, 3) }

func sockets(fds [2]int) (o objects) {
	for me, fd := range fds {
		o.files[me] = []*os.File{os.NewFile(uintptr(fd), "socket")}
	}
	return o
}

// createUnix creates a pair of connected sockets. See socketpair(2).
func createUnix() (objects, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX,
		unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return objects{}, fmt.Errorf("socketpair: %w", err)
	}
	return sockets(fds), nil
}

// createTCP connects two sockets on 127.0.0.1 that send each block at once.
// See TCP_NODELAY in tcp(7).
func createTCP() (o objects, err error) {
	var fds []int
	defer func() {
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			err = fmt.Errorf("127.0.0.1: %w", err)
		}
	}()
	for range 2 {
		fd, err := unix.Socket(unix.AF_INET,
			unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return o, err
		}
		fds = append(fds, fd)
	}
	listener, client := fds[0], fds[1]
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}} // any port
	err = errors.Join(unix.Bind(listener, local), unix.Listen(listener, 1))
	if err != nil {
		return o, err
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		return o, err
	}
	if err := unix.Connect(client, address); err != nil {
		return o, err
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return o, err
	}
	fds = append(fds, server)
	for _, fd := range fds[1:] {
		err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err != nil {
			return o, err
		}
	}
	unix.Close(listener)
	return sockets([2]int{client, server}), nil
}
