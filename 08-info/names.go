//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

var userNames = map[uint32]string{} // a name may take long to look up

// userName returns the name of a user. A user without a name has a number.
func userName(uid uint32) string {
	found, known := userNames[uid]
	if !known {
		found = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(found); err == nil {
			found = printable(u.Username)
		}
		userNames[uid] = found
	}
	return found
}

// groupName does the same for a group.
func groupName(gid uint32) string {
	digits := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(digits); err == nil {
		return printable(g.Name)
	}
	return digits
}

// printable makes text from others safe to print. The name of a file or a
// process may contain anything, also a new line or a command for the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, text)
}
