//go:build linux

package segment

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/01-shm-write-read/ipc"
)

const grace = 1500 * time.Millisecond // for a block, after the creator's end

// Peer is the writer of the segment that a reader has attached.
type Peer struct {
	Shmid   int
	Mem     []byte
	cpid    int32         // who created it: nearly always the writer
	exited  time.Time     // when that process was seen to have
	news    time.Time     // when the last block came
	timeout time.Duration // longest wait for the first; 0 is no limit
}

// Open waits for the segment of a writer that is alive and attaches it, to
// read and not to write. What a dead writer left is no news: the next writer
// replaces it. See shmat(2).
func Open(ctx context.Context, key ipc.Key, timeout time.Duration) (
	*Peer, error) {
	p := &Peer{news: time.Now(), timeout: timeout}
	hint := time.AfterFunc(5*time.Second, func() {
		ipc.Note("still waiting: other -key, other user, other container?")
	})
	defer hint.Stop()
	for said := false; ; said = true {
		shmid, ds, err := ipc.Lookup(key, Size)
		if err == nil && ds.Nattch > 0 && !ipc.Exited(ds.Cpid) {
			p.Shmid, p.cpid = shmid, ds.Cpid
			p.Mem, err = unix.SysvShmAttach(shmid, 0, unix.SHM_RDONLY)
			if err == nil {
				return p, nil
			} else if !ipc.Gone(err) {
				return nil, fmt.Errorf("shmat segment %d: %w", shmid, err)
			}
		} else if err != nil && err != unix.ENOENT {
			return nil, err
		}
		if !said {
			ipc.Note("waiting for a writer on key %v", key)
		}
		if err := p.Tick(ctx); err != nil {
			return nil, err
		}
	}
}

// Tick takes 10 ms and returns an error if no block can come any more. Look
// at the segment after it, so as not to miss what a dead writer wrote last.
func (p *Peer) Tick(ctx context.Context) error {
	err := ipc.Pause(ctx, ipc.Tick)
	switch {
	case err != nil:
		return err
	case p.timeout > 0 && time.Since(p.news) > p.timeout:
		return fmt.Errorf("no writer came within %v", p.timeout)
	case p.Mem == nil:
		return nil
	}
	ds, err := ipc.Stat(p.Shmid)
	if p.exited.IsZero() && ipc.Exited(p.cpid) {
		p.exited = time.Now()
	}
	switch dead := !p.exited.IsZero(); {
	case err != nil:
		return fmt.Errorf("segment %d: removed while in use", p.Shmid)
	case ds.Nattch == 1, dead && time.Since(p.exited) > grace:
		// The reader is alone; or others are there who do not write either.
		return fmt.Errorf("segment %d: its writer, pid %d, ended before it "+
			"was done", p.Shmid, ds.Cpid)
	case p.cpid == 0 && time.Since(p.news) > 30*time.Second:
		return fmt.Errorf("segment %d: no block in 30 s, from a writer that "+
			"cannot be seen from here", p.Shmid)
	}
	return nil
}

// News tells that a block came. Who wrote it is alive: if the creator is not,
// that was only a reader in C, whose segment the writer has taken over.
func (p *Peer) News() {
	if p.news, p.timeout = time.Now(), 0; !p.exited.IsZero() {
		p.cpid, p.exited = 0, time.Time{}
	}
}
