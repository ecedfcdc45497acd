//go:build linux

package ipc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const grace = 1500 * time.Millisecond // for news, after the peer's end

// Peer is the process that keeps a segment, as one sees it that joined it.
type Peer struct {
	Shmid int
	Mem   []byte
	Pid   int32 // see Keeper; 0 if it is not known

	name    string        // what messages call it
	waiting func()        // says that it is waited for, once
	exited  time.Time     // when it was seen to have
	late    bool          // ... and not only just now
	nattch  uint64        // attaches
	before  uint64        // attaches when the last news came
	news    time.Time     // when that was
	timeout time.Duration // longest wait for the first news; 0 is no limit
}

// Join waits for the segment of key, size bytes, of a process that is alive,
// and attaches it with flag 0 or unix.SHM_RDONLY. The segment of a dead one
// it ignores: who makes the next will replace it. A timeout of 0 is no limit.
// An error of check, if not nil, forbids the attach. See shmat(2).
func Join(ctx context.Context, key Key, size, flag int, name string,
	timeout time.Duration, check func(unix.SysvShmDesc) error) (*Peer, error) {
	p := &Peer{name: name, news: time.Now(), timeout: timeout}
	p.waiting = sync.OnceFunc(func() {
		Note("waiting for a %s on key %v", name, key)
	})
	hint := time.AfterFunc(5*time.Second, func() {
		Note("still waiting: other -key, other user, other container?")
	})
	defer hint.Stop()
	for {
		shmid, ds, err := Lookup(key, size)
		pid, alive := Keeper(ds)
		if err == nil && ds.Nattch > 0 && alive {
			if check != nil {
				err = check(ds)
			}
			if err == nil {
				p.Shmid, p.Pid = shmid, pid
				p.Mem, err = Attach(shmid, flag)
			}
			if err == nil {
				return p, nil
			}
		}
		if err != nil && err != unix.ENOENT && err != ErrRemoved {
			return nil, err
		}
		p.waiting()
		if err := p.Watch(ctx); err != nil {
			return nil, err
		}
	}
}

// Watch takes 10 ms and returns an error if no news can come any more. Look
// at the segment after it, so as not to miss the last that a dead peer wrote.
func (p *Peer) Watch(ctx context.Context) error {
	err := Pause(ctx, Tick)
	switch {
	case err != nil:
		return err
	case p.timeout > 0 && time.Since(p.news) > p.timeout:
		return fmt.Errorf("no %s came within %v", p.name, p.timeout)
	case p.Mem == nil:
		return nil
	}
	ds, err := Stat(p.Shmid)
	if err != nil {
		return err
	}
	p.nattch, p.late = ds.Nattch, !p.exited.IsZero()
	if !p.late && Exited(p.Pid) {
		p.exited = time.Now()
	}
	silent := time.Since(p.news)
	switch {
	case p.nattch == 1, p.late && time.Since(p.exited) > grace:
		// Nobody else is attached; or others who only wait as we do.
		return fmt.Errorf("segment %d: its %s, pid %d, ended before it was "+
			"done", p.Shmid, p.name, p.Pid)
	case silent > 30*time.Second && (p.Pid == 0 || p.nattch < p.before):
		return fmt.Errorf("segment %d: no news of its %s in 30 s",
			p.Shmid, p.name)
	case silent > time.Second && p.before == 0:
		p.waiting() // somebody made a segment and writes nothing
	}
	return nil
}

// News tells that there was some. If the process that was watched has ended
// a while ago, another wrote it: a reader in C, say, had made the segment.
func (p *Peer) News() {
	p.news, p.before, p.timeout = time.Now(), p.nattch, 0
	if p.late {
		p.Pid, p.exited = 0, time.Time{}
	}
}
