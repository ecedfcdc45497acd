//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file starts a test once more as another user.

const patience = time.Minute // for another process, on a busy machine

// want stops the test unless a call ended as it should.
func want(t testing.TB, call string, got, want error) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", call, got, want)
	}
}

// asOrdinaryUser runs a test once more, in a process without any privilege.
// It returns true there. In the first process it reports the outcome and
// returns false.
func asOrdinaryUser(t *testing.T) bool {
	t.Helper()
	const variable = "SHM_BY_EXAMPLE_ORDINARY_USER"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	var out strings.Builder
	cmd := exec.Command("/proc/self/exe", "-test.v",
		"-test.run=^"+t.Name()+"$", "-test.timeout="+patience.String())
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		}
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("needs to start a process of another user: %v", err)
	}
	err := cmd.Wait()
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()) {
		t.Skip(out.String())
	} else if err != nil ||
		!strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("as an ordinary user: %v\n%s", err, &out)
	}
	return false
}
