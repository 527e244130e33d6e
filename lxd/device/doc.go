// Package device is the contract between instances and the things plugged into
// them: network interfaces, disks, and what later issues add.
//
// A device never touches the container itself. It prepares the host and returns
// a Plug, which the instance slice puts into the container's Spec (cold) or
// hands to the running process (hot). Each kind lives in a folder of its own and
// stands in the list of package all.
package device
