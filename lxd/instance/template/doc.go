// Package template keeps what an image brings along beside its root file system:
// metadata.yaml and the templates that it names, in the volume of each instance.
//
// A template is rendered when the instance starts, if its "when" names why: "create",
// "copy" and "rename" for what happened since the last start, "start" for each one.
// Its text goes into the guest's root file system, where nothing of the host can be
// reached (see package inside).
package template
