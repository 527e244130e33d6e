// Package undo keeps the way back while a task changes the world.
//
// Each step that succeeded pushes what reverts it; when a later step fails the
// deferred Run walks the pushed functions backwards. Commit drops them.
//
//	var u undo.Stack
//	defer u.Run()
//	...
//	u.Push(func() error { return os.Remove(path) })
//	...
//	u.Commit()
package undo

import "errors"

// Stack is a list of functions that revert what was done. The zero value is ready.
type Stack struct {
	steps []func() error
	// OnError, when set, is told of every step that fails to revert.
	OnError func(error)
}

// Push adds the reversal of a step that has just succeeded.
func (s *Stack) Push(f func() error) { s.steps = append(s.steps, f) }

// Run reverts all steps, last first, and forgets them. It is meant for defer.
func (s *Stack) Run() { _ = s.Revert() }

// Revert is Run with the joined errors of the steps that could not be reverted.
func (s *Stack) Revert() error {
	var all []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i](); err != nil {
			all = append(all, err)
			if s.OnError != nil {
				s.OnError(err)
			}
		}
	}
	s.steps = nil
	return errors.Join(all...)
}

// Commit forgets the steps: what was done stays.
func (s *Stack) Commit() { s.steps = nil }

// Take moves the steps into a new stack, so that the caller can hand the way
// back to somebody else. Afterwards s is empty.
func (s *Stack) Take() *Stack {
	t := &Stack{steps: s.steps, OnError: s.OnError}
	s.steps = nil
	return t
}
