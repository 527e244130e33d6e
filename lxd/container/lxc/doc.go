// Package lxc runs containers through liblxc.
//
// It renders a Spec to liblxc's configuration by a pure function, has the shim
// start it, and from then on works without liblxc where the kernel can be asked
// itself: pidfds tell when a container ends, cgroup files what it uses, and
// commands enter it by setns. What a later daemon must know to find a container
// again lies in the container's RunDir and is written by the shim, so that a
// daemon that dies half-way through a start loses nothing.
//
//	RunDir/lxc.conf       the rendered configuration
//	RunDir/seccomp        the policy, as liblxc reads it
//	RunDir/seccomp.bpf    the filter that liblxc made of it
//	RunDir/answers        where filters with calls that somebody answers are handed over
//	RunDir/answers.json   the process that answers them
//	RunDir/answers.pending  what it has to answer still, should it be killed
//	RunDir/state.json     pids of init and monitor while they live
//	RunDir/starting       locked while a shim is starting the container
//	RunDir/reboot         left by the post-stop hook of a guest that rebooted
package lxc
