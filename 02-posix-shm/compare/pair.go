//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel sends the signal of Pdeathsig when the thread that started the
// child ends. So the main thread starts the children.
func init() { runtime.LockOSThread() }

// A pair is the two processes, ready to be started.
type pair struct {
	cmds [2]*exec.Cmd
	outs [2]bytes.Buffer
	cpus [2]int
}

// newPair prepares two processes that run this program, as in lesson 05. Only
// the parent gets Ctrl-C. When the parent ends, even if it is killed, the
// children end, too.
func newPair(ctx context.Context, m mechanism, o objects, cpus [2]int,
	works []work) (*pair, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	p := &pair{cpus: cpus}
	for me := range p.cmds {
		text, err := json.Marshal(task{me, m.name, o.id, works})
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, self, "-child", string(text))
		cmd.Args[0] = os.Args[0]
		cmd.Stdout, cmd.Stderr = &p.outs[me], os.Stderr
		// A program built with -race would wait for a second at its end.
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		cmd.ExtraFiles = o.files[me]
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true,
			Pdeathsig: unix.SIGTERM}
		p.cmds[me] = cmd
	}
	return p, nil
}

func (p *pair) start(me int) error {
	return onCPU(p.cpus[me], p.cmds[me].Start)
}

// run starts the two processes, and waits for both. If one fails, it ends the
// other.
func (p *pair) run(cancel func()) (phases [2][]phase, err error) {
	ended := make(chan error, len(p.cmds))
	for me, cmd := range p.cmds {
		if err := p.start(me); err != nil {
			ended <- err
			continue
		}
		go func() {
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("process %d, pid %d: %w", me,
					cmd.Process.Pid, err)
			}
			ended <- err
		}()
	}
	for range p.cmds {
		if e := <-ended; e != nil && err == nil {
			err = e
			cancel()
		}
	}
	if err == nil {
		err = p.results(&phases)
	}
	return phases, err
}

// results reads what the two processes have printed.
func (p *pair) results(phases *[2][]phase) (err error) {
	for me := range phases {
		if err == nil {
			err = json.Unmarshal(p.outs[me].Bytes(), &phases[me])
		}
	}
	return err
}

// measure measures a mechanism, with processes on these CPUs.
func (m mechanism) measure(ctx context.Context, cpus [2]int, quick bool) (
	f figures, err error) {
	err = m.pair(ctx, cpus, works(quick), func(p *pair, cancel func()) error {
		phases, err := p.run(cancel)
		if err == nil {
			f = m.summarize(works(quick), phases)
		}
		return err
	})
	return f, err
}

// pair creates new objects for two processes, and removes them after use. If
// this process is killed, the children remove them. If it is killed before the
// children run, a set or a queue of System V stays.
func (m mechanism) pair(ctx context.Context, cpus [2]int, works []work,
	do func(p *pair, cancel func()) error) error {
	o, err := m.create()
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	defer o.close()
	defer m.remove(o.id)
	// A minute is far longer than all limits together. Only a process that is
	// stopped takes so long.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := newPair(ctx, m, o, cpus, works)
	if err == nil {
		err = do(p, cancel)
	}
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		err = errors.New("not done after a minute: was a process stopped?")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}
