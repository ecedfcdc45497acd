//go:build linux && (amd64 || arm64 || riscv64)

// Writer copies its standard input, byte for byte, to the reader next door,
// through 1 KiB of shared memory. Two semaphores tell them whose turn it is.
//
//	terminal 1$ go run ./03-producer-consumer/writer < /etc/passwd
//	terminal 2$ go run ./03-producer-consumer/reader > /tmp/out.txt
//	terminal 2$ diff /etc/passwd /tmp/out.txt
//
// See shmget(2), shmop(2), semget(2), semop(2) and semctl(2).
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"example.com/shm-by-example/03-producer-consumer/segment"
	"example.com/shm-by-example/03-producer-consumer/transfer"
)

var (
	key    = flag.Int("key", transfer.Key, "`key` of the segment, hex 0x1234")
	semKey = flag.Int("semkey", transfer.SemKey, "`key` of the set, hex 0x5678")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("writer: ")
	flag.Parse()
	if flag.NArg() > 0 { // a stray argument
		flag.Usage()
		os.Exit(2)
	}
	// A signal does not kill the program. It ends ctx, and run returns.
	ctx, stop := signal.NotifyContext(context.Background(),
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	if err := transfer.CheckKeys(*key, *semKey); err != nil {
		return err
	}
	if err := removeLeftovers(ctx); err != nil { // of a killed writer
		return err
	}

	// Create the segment and two semaphores, for this user only. With IPC_EXCL
	// they are new. Linux sets both to 0. The writer goes first.
	const create = unix.IPC_CREAT | unix.IPC_EXCL | 0o600
	shmid, err := unix.SysvShmGet(*key, transfer.Size, create)
	if err != nil {
		return fmt.Errorf("shmget key %#x: %w", *key, err)
	}
	semid, err := transfer.Semget(*semKey, 2, create)
	if err == nil {
		_, err = transfer.Semctl(semid, transfer.Write, transfer.SETVAL, 1)
	}
	if err != nil {
		remove(shmid, semid)
		return fmt.Errorf("semget, semctl key %#x: %w", *semKey, err)
	}

	// Attach the segment last. Our reader waits until it is attached. So the
	// reader finds the new semaphores, and not those of a killed writer.
	mem, err := unix.SysvShmAttach(shmid, 0, 0)
	if err != nil {
		remove(shmid, semid)
		return fmt.Errorf("shmat segment %d: %w", shmid, err)
	}

	shared := transfer.View(mem)
	err = send(shared, semid, &peer{ctx: ctx, shmid: shmid, semid: semid})
	if err != nil {
		// Our reader notices that the semaphores are gone. The tutorial's
		// reader looks only at cnt: 0 tells it that this is the end.
		transfer.Semctl(semid, 0, unix.IPC_RMID, 0)
		shared.Cnt.Store(0)
	}

	// Detach the segment, and remove it and the semaphores.
	if e := unix.SysvShmDetach(mem); e != nil {
		err = errors.Join(err, fmt.Errorf("shmdt segment %d: %w", shmid, e))
	}
	if err = errors.Join(err, remove(shmid, semid)); err == nil {
		fmt.Println("Writer: done")
	}
	return err
}

// send transfers its input, in blocks as they come. For peer see peer.go.
func send(shared *transfer.Shared, semid int, peer *peer) error {
	transfer.TwoProcessors() // for speed, as is 64<<10: see speed.go
	input := bufio.NewReaderSize(stdin{peer.check}, 64<<10)
	for turn, done := 1, false; ; turn++ {
		// P: wait until we may write. At the end, until all has been read.
		err := transfer.Semop(semid, transfer.Write, -1, peer.look)
		if err == nil && (transfer.NowAndThen(turn) || done) { // speed.go
			err = peer.meet() // is it still the same reader?
		}
		if err != nil || done {
			return err
		}

		// Fill the buffer. At the end n is 0, and cnt 0 tells the reader so.
		n, err := input.Read(shared.Buf[:])
		if done = err == io.EOF; done {
			err = peer.check() // does the reader still run?
		}
		if err != nil {
			n = -1
		}
		shared.Cnt.Store(int32(n))

		// V: the reader may read.
		e := transfer.Semop(semid, transfer.Read, +1, peer.check)
		if err = errors.Join(err, e); err != nil {
			return err
		}
	}
}

// remove removes both. If somebody has removed one already, that is no error.
func remove(shmid, semid int) error {
	_, err := unix.SysvShmCtl(shmid, unix.IPC_RMID, nil)
	_, e := transfer.Semctl(semid, 0, unix.IPC_RMID, 0)
	if err != nil && !segment.Removed(err) {
		return fmt.Errorf("shmctl IPC_RMID segment %d: %w", shmid, err)
	} else if e != nil && !segment.Removed(e) {
		return fmt.Errorf("semctl IPC_RMID set %d: %w", semid, e)
	}
	return nil
}
