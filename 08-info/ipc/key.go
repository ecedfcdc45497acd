//go:build linux

package ipc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Key is a System V key, a flag.Value: decimal or 0x…, as ipcrm -M reads it.
type Key uint32

// String shows both forms, because ipcs shows the second.
func (k Key) String() string { return fmt.Sprintf("%d (%#[1]x)", uint32(k)) }

// Set refuses octal, which is rarely meant, and 0, which is IPC_PRIVATE.
func (k *Key) Set(s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 || s[0] == '0' && !strings.HasPrefix(s, "0x") {
		return errors.New("want 1 to 4294967295, or 0x1 to 0xffffffff")
	}
	*k = Key(n)
	return nil
}
