//go:build linux

package main

import "testing"

// The table has more columns on some kernels: their names are to be
// relied on, and not their places.
func TestColumn(t *testing.T) {
	const table = `       key      shmid perms  size   rss  swap
         0          7  3600  4096     0     0
      4660          8  1600  8192  4096     0
`
	for _, c := range []struct {
		table, name string
		shmid       int
		want        uint64
		ok          bool
	}{
		{table, "rss", 7, 0, true},
		{table, "rss", 8, 4096, true},
		{table, "size", 8, 8192, true},
		{table, "rss", 4660, 0, false},
		{table, "RSS", 7, 0, false},
		{"", "rss", 7, 0, false},
		{"key shmid\n0 7\n", "rss", 7, 0, false},
		{"key shmid rss\n0 7\n", "rss", 7, 0, false},
		{"key shmid rss\n0 7 many\n", "rss", 7, 0, false},
	} {
		got, err := column(c.table, c.shmid, c.name)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s of %d: %d, %v", c.name, c.shmid, got, err)
		}
	}
}
