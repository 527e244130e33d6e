package main

func int80(nr uint32) int32
