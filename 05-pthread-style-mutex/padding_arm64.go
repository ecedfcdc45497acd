//go:build linux

package main

const padding = 8 // bytes at the end of pthread_mutex_t, 48 in all
