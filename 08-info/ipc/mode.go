//go:build linux

package ipc

import (
	"errors"
	"fmt"
	"strconv"
)

// Mode is a set of permission bits, a flag.Value: octal, with or without 0.
type Mode uint32

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// Set takes 0 to 0777.
func (m *Mode) Set(s string) error {
	n, err := strconv.ParseUint(s, 8, 9)
	if err != nil {
		return errors.New("want permission bits, octal, up to 0777")
	}
	*m = Mode(n)
	return nil
}
