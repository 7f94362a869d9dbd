package mesossim

import (
	"math/rand/v2"
	"testing"

	"millrace/scheduler/mesos"
)

// anyBundle returns some resources.
func anyBundle(r *rand.Rand) bundle {
	list := []mesos.Resource{Amount(mesos.CPUs, float64(r.IntN(4000))/1000), Amount(mesos.Mem, float64(r.IntN(512)))}
	for range r.IntN(4) {
		begin := uint64(31000 + r.IntN(20))
		list = append(list, mesos.Resource{Name: mesos.Ports, Type: mesos.TypeRanges, Ranges: &mesos.Ranges{Range: []mesos.Range{{Begin: begin,
			End: begin + uint64(r.IntN(5))}}}})
	}
	if r.IntN(2) == 0 {
		list = append(list, mesos.Resource{Name: "disks", Type: mesos.TypeSet, Set: &mesos.Set{Item: []string{"a", "b", "c"}[:1+r.IntN(3)]}})
	}
	if r.IntN(2) == 0 {
		reserved := Amount(mesos.CPUs, 1)
		reserved.Role = "batch"
		list = append(list, reserved)
	}
	return bundleOf(list)
}

// TestBundles: what is added can be taken away, and what is taken away leaves the rest.
func TestBundles(t *testing.T) {
	t.Parallel()
	const seed = 6
	r := rand.New(rand.NewPCG(seed, seed))
	equal := func(a, b bundle) bool { return a.has(b) && b.has(a) }
	for i := range 2000 {
		a, b := anyBundle(r), anyBundle(r)
		rest := a.sub(b)
		switch sum := a.add(b); {
		case !sum.has(a) || !sum.has(b):
			t.Fatalf("seed %d, round %d: %v and %v: the sum %v lacks something", seed, i, a.text("*"), b.text("*"), sum.text("*"))
		case a.has(b) && !equal(rest.add(b), a):
			t.Fatalf("seed %d, round %d: %v without %v is %v: together they are not the first", seed, i, a.text("*"), b.text("*"), rest.text("*"))
		case !a.has(rest):
			t.Fatalf("seed %d, round %d: %v without %v is %v, which is more", seed, i, a.text("*"), b.text("*"), rest.text("*"))
		case len(a.sub(a)) != 0:
			t.Fatalf("seed %d, round %d: %v without itself is %v", seed, i, a.text("*"), a.sub(a).text("*"))
		}
	}
	whole := bundleOf(Resources(1, 1, 1))
	left := whole.sub(bundleOf([]mesos.Resource{{Name: mesos.Ports, Type: mesos.TypeRanges, Ranges: &mesos.Ranges{Range: []mesos.Range{{Begin: 31500, End: 31500}}}}}))
	if got, want := left.text("*"), "ports(allocated: *):[31000-31499, 31501-32000]; cpus(allocated: *):1; mem(allocated: *):1; disk(allocated: *):1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tenth := bundleOf([]mesos.Resource{Amount(mesos.CPUs, 0.1)})
	sum := bundle(nil)
	for range 10 {
		sum = sum.add(tenth)
	}
	if !sum.has(bundleOf([]mesos.Resource{Amount(mesos.CPUs, 1)})) {
		t.Errorf("ten tenths are %s, want an exact fit of 1", sum.text("*"))
	}
}
