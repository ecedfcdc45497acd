//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"os"
	"strconv"
	"strings"
)

const cacheLineFile = "/sys/devices/system/cpu/cpu0/cache/index0/" +
	"coherency_line_size"

// CacheLine returns the size of a cache line in bytes, from a file of the
// kernel. Virtual machines and containers may lack the file. Then, or if the
// number is not plausible, it is 64: the distance between the two indices.
func CacheLine() int {
	text, _ := os.ReadFile(cacheLineFile) // without the file, n is 0
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if n < 16 || n > 1024 || n&(n-1) != 0 {
		return 64
	}
	return n
}
