//go:build linux && (amd64 || arm64 || riscv64)

package ring

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

const cacheLineFile = "/sys/devices/system/cpu/cpu0/cache/index0/" +
	"coherency_line_size"

// CacheLine is the kernel's figure, from a file that virtual machines and
// containers may lack. Without a plausible one it is 64, by which the layout
// keeps the indices apart.
func CacheLine() int {
	text, err := os.ReadFile(cacheLineFile)
	n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if errors.Join(err, bad) != nil || n < 16 || n > 1024 || n&(n-1) != 0 {
		return 64
	}
	return n
}
