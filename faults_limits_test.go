//go:build linux

package shm_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// limitFaults are what the machine does not give.
func limitFaults() []fault {
	return []fault{
		{name: "limits/ipc", room: true, needs: "sysctl", do: ipcLimits},
		{name: "limits/process", do: processLimits},
		{name: "limits/shm-full", room: true, shm: "64k", do: fullShm},
		{name: "few-rights", room: true, shm: "64m", needs: "setpriv", do: fewRights},
	}
}

// refused runs a program that must fail with 1 and say all that is wanted.
func (p *place) refused(w with, command string, wanted ...string) {
	if p.x.job.Until && p.x.failed() {
		return
	}
	r := p.start(w, command)
	defer r.kill()
	if r.keyboard != nil {
		r.keyboard.Close()
	}
	r.within(slack)
	err := r.is("1")
	for _, text := range wanted {
		if err == nil && !strings.Contains(r.err.String(), text) {
			err = fmt.Errorf("does not say %q: %v", text, r)
		}
	}
	if err != nil {
		p.x.errorf("%v", err)
	}
}

// Programs that make a segment, with their keys; and those with a set.
var (
	makers = []string{"01/writer -key $KEY", "03/producer -key $KEY",
		"03/writer -key $KEY -semkey $KEY2", "04/04-semaphore-counter -key $KEY -semkey $KEY2",
		"05/05-pthread-style-mutex -key $KEY", "06/06-offsets -key $KEY",
		"07/07-shm-lock -key $KEY", "08/08-info create -key $KEY -size 264"}
	setMakers = []string{makers[2], makers[3]}
)

// ipcLimits lowers the limits of the room.
func ipcLimits(x *experiment) {
	p := x.place(0)
	lowered := func(name, value string, do func()) {
		file := "/proc/sys/kernel/" + name
		old, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(value), 0)
		}
		if err != nil {
			x.errorf("%v", err)
			return
		}
		defer os.WriteFile(file, old, 0)
		do()
	}
	all := func(commands []string, wanted ...string) func() {
		return func() {
			for _, command := range commands {
				if strings.HasPrefix(command, "01") { // the call, and the error
					p.refused(with{}, command, "shmget key ")
				} else if strings.HasPrefix(command, "08") { // it has a table of them
					p.refused(with{}, command, "shmget key ", "08-info limits shows")
				} else {
					p.refused(with{}, command, append(wanted, "ask root to raise it")...)
				}
				if err := p.left(); err != nil && !strings.HasPrefix(command, "04") {
					x.errorf("%s: %v", command, err)
				}
			}
		}
	}
	lowered("shmmax", "200", all(makers, "invalid argument: ", " bytes, and kernel.shmmax is 200\n"))
	lowered("shmall", "0", all(makers, "no space left on device: ", "kernel.shmall is 0\n"))
	lowered("shmmni", "0", all(makers, "0 segments", "kernel.shmmni is 0\n"))
	lowered("sem", "250 32000 32 0", all(setMakers, "semget key ", "no space left on device: ",
		"kernel.sem is 250 32000 32 0, "))
	lowered("sem", "0 32000 32 128", all(setMakers, "semget key ", "invalid argument: ",
		"kernel.sem is 0 32000 32 128, "))
	lowered("sem", "250 32000 1 128", all(setMakers[:1], "semop key ", "argument list too long: ",
		"kernel.sem is 250 32000 1 128, "))
}

// processLimits lowers those of a process.
func processLimits(x *experiment) {
	// Too few descriptors. There is no number of them with which a program
	// panics, and from some number on all is well.
	var commands []string
	for _, p := range pairs() {
		if !strings.HasPrefix(p.a, "01") { // it does not look after them
			commands = append(commands, p.a)
		}
	}
	commands = append(commands, "02/producer -n 0 -name /$NAME")
	each(x, 8, commands, func(p *place, command string) {
		few, most := 4, 16
		if !x.job.Long {
			most = 8
		}
		for n := few; n <= most; n++ {
			var w with
			w.change = inShell(fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n))
			if strings.HasPrefix(command, "08/08-info rm") {
				made := p.start(with{}, "08/08-info create -key $KEY -size 1")
				made.within(slack)
			}
			r := p.start(w, command)
			r.keyboard.Close()
			if r.prints("waiting for") && !r.within(0) { // it works
				r.cmd.Process.Signal(os.Interrupt)
			}
			r.within(slack)
			if err := r.is("0", "1", "130"); err != nil {
				x.errorf("with %d descriptors: %v", n, err)
			} else if r.status() == "1" && !strings.Contains(r.err.String(), "too many open files") {
				x.errorf("with %d descriptors, the cause is not named: %v", n, r)
			} else if r.status() == "1" && !strings.Contains(r.err.String(), "ulimit -n") {
				x.errorf("with %d descriptors, no cure: %v", n, r)
			}
			r.kill()
			for _, pair := range pairs() {
				if pair.a == command && strings.HasPrefix(command, "04") {
					pair.afterwards(p)
				}
			}
			if err := p.left(); err != nil && !strings.HasPrefix(command, "08") {
				x.errorf("with %d descriptors: %v\n%v", n, err, r)
			}
		}
	})
	// Memory that may not be locked is only noted, where it is no subject.
	p := x.place(0)
	w := with{change: inShell(`ulimit -l 0; exec "$0" "$@"`)}
	r := p.start(w, "02/producer -n 0 -name /$NAME")
	r.within(slack)
	if err := r.is("0"); err != nil {
		x.errorf("%v", err)
	}
	// An address space in which the Go runtime has room, and the segment none.
	const space = 4 << 20 // KiB
	w.change = inShell(fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, space))
	p.refused(w, fmt.Sprintf("07/07-shm-lock -key $KEY -size %d", space<<10),
		"cannot allocate memory", "ulimit -v")
	if err := p.left(); err != nil {
		x.errorf("%v", err)
	}
}

// fullShm runs the programs of POSIX objects where there is no room for them.
func fullShm(x *experiment) {
	const full = "no space left on device"
	p := x.place(0)
	p.refused(with{}, "02/large -name /$NAME", full, "df -h /dev/shm")
	if err := os.WriteFile("/dev/shm/full", make([]byte, 64<<10), 0o600); err != nil {
		x.errorf("%v", err)
	}
	p.refused(with{}, "02/02-posix-shm -name /$NAME", full, "df -h /dev/shm")
	p.refused(with{}, "02/producer -name /$NAME", full, "df -h /dev/shm")
	p.refused(with{}, "04/04-semaphore-counter -sync posix -key $KEY -name /$NAME", full, "df -h /dev/shm")
	p.start(with{}, "04/04-semaphore-counter -sync posix -key $KEY -name /$NAME -rm").within(slack)
	os.Remove("/dev/shm/full")
	if err := p.left(); err != nil {
		x.errorf("%v", err)
	}
}

// fewRights runs everything as root without the rights that a container
// takes away, and with the small /dev/shm of one.
func fewRights(x *experiment) {
	each(x, 4, pairs(), func(place *place, p pair) {
		at := point{side: 2, name: "few rights", change: withoutRights}
		if err := p.suffer(place, at); err != nil {
			x.errorf("%v", err)
		}
	})
}

func withoutRights(cmd *exec.Cmd) {
	args := []string{"setpriv", "--bounding-set=-sys_admin,-ipc_lock",
		"--inh-caps=-sys_admin,-ipc_lock", "--", cmd.Path}
	cmd.Args = append(args, cmd.Args[1:]...)
	cmd.Path, _ = exec.LookPath("setpriv")
}
