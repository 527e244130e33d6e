// Package inside reaches files below a root that belongs to somebody who may wish us
// ill: the volume of an instance, or the root file system of its guest.
//
// The kernel keeps every look-up below the root (openat2), whatever links lie on the
// way. What is there already is never opened for writing, only replaced: behind its
// name may be a FIFO, a device or another name of the same file.
package inside
