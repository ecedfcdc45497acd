//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

var userNames = map[uint32]string{} // a name may take long to look up

// userName is the name of a user, or the number of one without a name.
func userName(uid uint32) string {
	name, known := userNames[uid]
	if !known {
		name = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = printable(u.Username)
		}
		userNames[uid] = name
	}
	return name
}

// groupName is the same for a group.
func groupName(gid uint32) string {
	number := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(number); err == nil {
		return g.Name
	}
	return number
}

// printable is text from others: a file's or a process's name may contain
// anything, and is not to command this terminal or to begin a line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, text)
}
