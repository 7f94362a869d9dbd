package clickstream

// defaults are the members of a batch's context and integrations, which each of its events has unless it says otherwise itself: member by
// member, not deeper.
type defaults struct {
	any   bool
	field [numFields]struct {
		list  []span         // the members, name and value
		names [][]byte       // theirs
		index map[string]int // by name, the last of doubled ones
	}
	taken []bool // which of a list an event has itself
}

// readDefaults notes the batch's defaults. Most batches have none, and pay nothing.
func (d *Decoder) readDefaults() {
	d.defaults.any = false
	for _, f := range [...]field{context, integrations} {
		def := &d.defaults.field[f]
		def.list, def.names = def.list[:0], def.names[:0]
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
			def.list, def.names = append(def.list, member), append(def.names, name)
			d.defaults.any = true
		})
	}
}

// appendIntegrations appends the event's integrations with the batch's under them, as a member with its comma. A value that is there, but is
// no object, is kept.
func (d *Decoder) appendIntegrations(it *item) {
	own := d.raw(it.vals[integrations])
	if len(own) == 0 && len(d.defaults.field[integrations].list) == 0 {
		return
	}
	d.out = append(d.out, `,"integrations":`...)
	if len(own) > 0 && own[0] != '{' && own[0] != 'n' {
		d.out = appendFlat(d.out, own, true)
		return
	}
	sep := byte('{')
	d.eachMerged(it, integrations, func(_ []byte, member span) {
		d.out = appendFlat(append(d.out, sep), d.raw(member), true)
		sep = ','
	})
	if sep == '{' {
		d.out = append(d.out, sep)
	}
	d.out = append(d.out, '}')
}

// eachMerged calls yield for each member of the event's field f with the batch's defaults under it: first those of the batch that the event
// does not have itself, then its own.
func (d *Decoder) eachMerged(it *item, f field, yield func(name []byte, member span)) {
	def := &d.defaults.field[f]
	d.defaults.taken = append(d.defaults.taken[:0], make([]bool, len(def.list))...)
	d.members(it.vals[f], func(name []byte, _, _ span) {
		if i, ok := def.index[string(name)]; ok {
			d.defaults.taken[i] = true
		}
	})
	for i, member := range def.list {
		if !d.defaults.taken[i] {
			yield(def.names[i], member)
		}
	}
	d.members(it.vals[f], func(name []byte, member, _ span) { yield(name, member) })
}
