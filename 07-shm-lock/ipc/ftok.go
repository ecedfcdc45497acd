//go:build linux

package ipc

import "golang.org/x/sys/unix"

// Ftok makes a key of a file that exists and a number, as the C library does:
// 8 bits of the number, 8 of the file's device, 16 of its inode; so that two
// files may give one key. It returns 0, which is no key, if there is no such
// file. See ftok(3).
func Ftok(path string, id byte) Key {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	return Key(id)<<24 | Key(st.Dev&0xff)<<16 | Key(st.Ino&0xffff)
}
