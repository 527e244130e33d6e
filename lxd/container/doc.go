// Package container says what it takes to run one container, whoever runs it.
//
// A Spec is a complete, declarative description; an Engine turns it into a
// Process. The package knows nothing of projects, databases or the API: the
// instance slice fills in the Spec, the drivers below (lxc, fake) run it, and
// containertest is the one suite that each of them passes.
package container
