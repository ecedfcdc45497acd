//go:build linux

package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file starts the other process of a test.

const patience = time.Minute // for another process, on a busy machine

// must stops the test if a call failed.
func must(t testing.TB, call string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
}

// newPeer starts the other process, which runs body and ends. The process is
// this test binary once more: there the test runs up to this same call, so
// nothing may come before it that must happen only once. It returns the
// connection to that process.
func newPeer(t *testing.T, body func(test conn)) (other conn) {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_PEER"
	if os.Getenv(variable) == t.Name() {
		body(conn{t, bufio.NewReader(os.Stdin), os.Stdout})
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	cmd := exec.CommandContext(ctx, "/proc/self/exe",
		"-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, "pipe", err)
	stdout, err := cmd.StdoutPipe()
	must(t, "pipe", err)
	must(t, "start", cmd.Start())
	t.Cleanup(func() { cancel(); stdin.Close(); cmd.Wait() })
	return conn{t, bufio.NewReader(stdout), stdin}
}

// A conn is one end of the connection between a test and the other process.
// They send each other numbers.
type conn struct {
	t   *testing.T
	in  *bufio.Reader
	out io.Writer
}

func (c conn) say(n int) { fmt.Fprintln(c.out, n) }

func (c conn) hear() int {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	n, e := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || e != nil {
		rest, _ := io.ReadAll(c.in)
		c.t.Fatalf("the other process says: %v %s%s", err, line, rest)
	}
	return n
}
