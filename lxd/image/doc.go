// Package image is about images: archives of a root file system with what is to be
// known of it, found by fingerprint or alias.
//
// Rules: the fingerprint is the SHA-256 of the metadata followed by the root file
// system; a prefix that fits one image only will do; strangers see public images
// only, and learn nothing of others. What comes in is written to a file of its own
// until it has been found to be whole; what is in an image is read with limits, and
// unpacked in a jail. Tables owned: images and all images_*.
package image
