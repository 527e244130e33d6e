package op

import (
	"runtime/debug"
	"slices"
)

func sortByAge(ops []*Operation) {
	slices.SortFunc(ops, func(a, b *Operation) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
}

func stack() string { return string(debug.Stack()) }
