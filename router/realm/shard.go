package realm

// setNode sets the member's node key.
func (mem *member) setNode(node string) {
	if mem.node != "" {
		mem.of.nodes--
	}
	if mem.node = node; node != "" {
		mem.of.nodes++
	}
}

// shard chooses the node that has a resource: the one whose key gives the
// highest hash together with the resource's, as for registrations. "" means that
// the event goes to all members.
func (sub *subscription) shard(resource string) (node string) {
	if resource == "" || sub.nodes == 0 {
		return ""
	}
	var most uint64
	for _, mem := range sub.members {
		if mem.node == "" {
			continue
		}
		if h := newWeight(resource).add(mem.node).sum(); node == "" || h > most {
			node, most = mem.node, h
		}
	}
	return node
}

// weight is FNV-1a over the key of a resource and that of a node, mixed in the
// end so that each bit depends on all.
type weight uint64

func newWeight(resource string) weight {
	const offset = 14695981039346656037
	return weight(offset).add(resource).mix(0xff) // which no UTF-8 has in it
}

func (w weight) mix(v uint64) weight {
	const prime = 1099511628211
	return (w ^ weight(v)) * prime
}

func (w weight) add(s string) weight {
	for i := range len(s) {
		w = w.mix(uint64(s[i]))
	}
	return w
}

func (w weight) sum() uint64 {
	h := uint64(w)
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
