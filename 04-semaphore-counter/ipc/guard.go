//go:build linux

package ipc

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrTruncated is what Guard's error wraps.
var ErrTruncated = errors.New("somebody has truncated the object")

// Guard calls use, which touches mapped memory. That the object has been
// truncated meanwhile is an error, where a C program dies of SIGBUS.
func Guard(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		default:
			panic(fault)
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("no memory at %#x: %w", fault.Addr(), ErrTruncated)
		}
	}()
	return use()
}
