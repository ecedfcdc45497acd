//go:build linux && !arm64

package main

const padding = 0 // bytes at the end of pthread_mutex_t, 40 in all
