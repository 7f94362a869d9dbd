package clickstream

// defaults are the members of a batch's context and integrations, which each of its events has unless it says otherwise itself: member by
// member, not deeper.
type defaults struct {
	any   bool
	field [numFields]struct {
		list  []span         // the members, name and value
		index map[string]int // by name, the last of doubled ones
	}
	taken []bool // which of a list an event has itself
}

// readDefaults notes the batch's defaults. Most batches have none, and pay nothing.
func (d *Decoder) readDefaults() {
	d.defaults.any = false
	for _, f := range [...]field{context, integrations} {
		def := &d.defaults.field[f]
		def.list = def.list[:0]
		clear(def.index)
		d.members(d.env.vals[f], func(name []byte, member, _ span) {
			if def.index == nil {
				def.index = make(map[string]int)
			}
			if i, ok := def.index[string(name)]; ok {
				def.list[i] = member
				return
			}
			def.index[string(name)] = len(def.list)
			def.list = append(def.list, member)
			d.defaults.any = true
		})
	}
}

// appendMerged appends the event's field f with the batch's defaults under it, as a member with its comma. A value that is there, but is no
// object, is kept.
func (d *Decoder) appendMerged(it *item, f field, name string) {
	def := &d.defaults.field[f]
	own := d.raw(it.vals[f])
	if len(own) == 0 && len(def.list) == 0 {
		return
	}
	d.out = append(append(append(d.out, `,"`...), name...), `":`...)
	if len(own) > 0 && own[0] != '{' && own[0] != 'n' {
		d.out = appendFlat(d.out, own, true)
		return
	}
	d.defaults.taken = append(d.defaults.taken[:0], make([]bool, len(def.list))...)
	d.members(it.vals[f], func(name []byte, _, _ span) {
		if i, ok := def.index[string(name)]; ok {
			d.defaults.taken[i] = true
		}
	})
	sep := byte('{')
	emit := func(member span) {
		d.out = appendFlat(append(d.out, sep), d.raw(member), true)
		sep = ','
	}
	for i, member := range def.list {
		if !d.defaults.taken[i] {
			emit(member)
		}
	}
	d.members(it.vals[f], func(_ []byte, member, _ span) { emit(member) })
	if sep == '{' {
		d.out = append(d.out, sep)
	}
	d.out = append(d.out, '}')
}
