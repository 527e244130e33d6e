//go:build !amd64

package main

func int80(uint32) int32 { return 0 }
