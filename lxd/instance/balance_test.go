package instance

import (
	"reflect"
	"testing"

	"sett/lxd/container"
)

func TestInstancesAreSpreadOverCPUs(t *testing.T) {
	t.Parallel()
	four := []int{0, 1, 2, 3}
	for name, c := range map[string]struct {
		load map[int]int
		all  []counted
		want [][]int
	}{
		"nobody":               {nil, nil, [][]int{}},
		"one each":             {nil, []counted{{1, nil}, {1, nil}, {1, nil}}, [][]int{{0}, {1}, {2}}},
		"all of them":          {nil, []counted{{4, []int{1}}, {9, nil}}, [][]int{nil, nil}},
		"away from fixed ones": {map[int]int{0: 2, 1: 1}, []counted{{1, nil}, {2, nil}}, [][]int{{2}, {1, 3}}},
		"who is well placed":   {nil, []counted{{1, []int{3}}, {1, []int{1}}}, [][]int{{3}, {1}}},
		"one has gone":         {nil, []counted{{1, []int{0}}, {1, []int{0}}}, [][]int{{0}, {1}}},
		"a CPU has gone":       {nil, []counted{{2, []int{3, 7}}}, [][]int{{0, 3}}},
		"many":                 {nil, []counted{{2, nil}, {2, nil}, {2, nil}}, [][]int{{0, 1}, {2, 3}, {0, 1}}},
	} {
		load := c.load
		if load == nil {
			load = map[int]int{}
		}
		if got := spread(four, load, c.all); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

func TestLimitsInForceAreNoted(t *testing.T) {
	t.Parallel()
	for limit, want := range map[string]int{"": 0, "2": 2, "0-1": 0, "1,3": 0} {
		l := &live{}
		l.limited(&Instance{Config: map[string]string{"limits.cpu": limit}}, container.Limits{CPUSet: "1,3", Memory: 5})
		if l.count != want || !reflect.DeepEqual(l.cpus, []int{1, 3}) || l.limits.Memory != 5 {
			t.Errorf("%q: %d %v %+v", limit, l.count, l.cpus, l.limits)
		}
	}
}
