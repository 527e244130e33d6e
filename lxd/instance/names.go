package instance

import (
	"math/rand/v2"

	"sett/shared/errs"
)

// CheckName refuses names that cannot be host names, which instance names become.
func CheckName(name string) error {
	if name == "" {
		return errs.Invalid("Invalid instance name: it is empty")
	}
	if len(name) > 63 {
		return errs.Invalid("Invalid instance name %q: it is longer than 63 characters", name)
	}
	for _, c := range name {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			continue
		}
		return errs.Invalid("Invalid instance name %q: it may hold letters, digits and hyphens only", name)
	}
	if c := name[0]; c == '-' || c >= '0' && c <= '9' {
		return errs.Invalid("Invalid instance name %q: it must begin with a letter", name)
	}
	if name[len(name)-1] == '-' {
		return errs.Invalid("Invalid instance name %q: it must not end with a hyphen", name)
	}
	return nil
}

var (
	moods = []string{
		"able", "ample", "apt", "brave", "brisk", "calm", "civil", "clear", "clever", "cosy", "deft", "eager", "early",
		"fair", "fast", "fine", "fond", "frank", "fresh", "gentle", "glad", "grand", "happy", "hardy", "honest", "humble",
		"jolly", "keen", "kind", "light", "lively", "loyal", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
		"patient", "plain", "polite", "prime", "proud", "quick", "quiet", "rapid", "ready", "robust", "rosy", "sharp",
		"silent", "sleek", "smart", "snug", "sober", "solid", "steady", "sunny", "swift", "tidy", "true", "vivid", "warm", "wise", "witty",
	}
	animals = []string{
		"adder", "alpaca", "badger", "bat", "beaver", "bison", "boar", "buck", "bunting", "carp", "cat", "civet", "crane",
		"crow", "deer", "dingo", "dove", "duck", "eagle", "elk", "falcon", "ferret", "finch", "fox", "gecko", "goat",
		"goose", "hare", "hawk", "hedgehog", "heron", "horse", "ibex", "jackal", "jay", "kestrel", "koala", "lark",
		"lemur", "linnet", "lynx", "magpie", "marten", "mink", "mole", "moose", "newt", "otter", "owl", "panda",
		"perch", "pike", "plover", "pony", "puffin", "quail", "raven", "robin", "salmon", "seal", "shrew", "sloth",
		"snipe", "sparrow", "squirrel", "stoat", "stork", "swan", "tern", "thrush", "toad", "trout", "vole", "weasel", "wolf", "wren", "yak",
	}
)

// petName makes a name of two words for an instance that was given none.
func petName() string {
	return moods[rand.IntN(len(moods))] + "-" + animals[rand.IntN(len(animals))]
}
