//go:build linux

package ipc

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Name is the name of a POSIX object, a flag.Value: a slash, and no other.
type Name string

func (n Name) String() string { return string(n) }

// Set takes up to 255 bytes, which make a file name. See shm_open(3).
func (n *Name) Set(s string) error {
	file, ok := strings.CutPrefix(s, "/")
	if !ok || file == "" || file == "." || file == ".." || len(s) > 255 ||
		strings.ContainsAny(file, "/\x00") {
		return errors.New("want a slash and a name of up to 254 bytes")
	}
	*n = Name(s)
	return nil
}

// Path is the file that the object is: shm_open(3) is open(2) of it. For a
// semaphore, sem_open(3) begins the file's name with sem. as prefix.
func (n Name) Path(prefix string) string {
	return "/dev/shm/" + prefix + string(n[1:])
}

// Open is open(2) of a file in /dev/shm. A signal does not disturb it.
func Open(path string, flags int, mode Mode) (fd int, err error) {
	for {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, uint32(mode))
		if err != unix.EINTR {
			return fd, err
		}
	}
}
