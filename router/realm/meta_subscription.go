package realm

import "github.com/postern-iot/postern/wamp"

func (sub *subscription) details() wamp.Dict {
	return wamp.Dict{
		"id": sub.id, "created": sub.created.iso8601(), "uri": sub.topic, "match": string(sub.match),
	}
}

// announceMember says that a session has been added to a subscription, and
// perhaps that this is new ("Subscriptions Meta API"). Subscriptions to the
// router's own events are not announced: whoever subscribes to these wants to
// hear of others, and would always hear of that first.
func (r *Realm) announceMember(mem *member) {
	sub := mem.of
	if wamp.Reserved(sub.topic) {
		return
	}
	if len(sub.members) == 1 && sub.history == nil && r.heard(metaOnSubCreate) {
		r.announce(metaOnSubCreate, mem.session.ID, sub.details())
	}
	if r.heard(metaOnSubscribe) {
		r.announce(metaOnSubscribe, mem.session.ID, sub.id)
	}
}

// announceNoMember says that a session has been removed from a subscription.
func (r *Realm) announceNoMember(mem *member) {
	sub := mem.of
	if wamp.Reserved(sub.topic) {
		return
	}
	if r.heard(metaOnUnsubscribe) {
		r.announce(metaOnUnsubscribe, mem.session.ID, sub.id)
	}
	if len(sub.members) == 0 && sub.history == nil && r.heard(metaOnSubDelete) {
		r.announce(metaOnSubDelete, mem.session.ID, sub.id)
	}
}

func (r *Realm) subscriptionList(*metaCall) (wamp.List, *wamp.Error) {
	return wamp.List{byMatch(r.subscriptionByID, func(sub *subscription) wamp.Match { return sub.match })}, nil
}

func (r *Realm) subscriptionLookup(c *metaCall) (wamp.List, *wamp.Error) {
	topic, fault := c.text(0, "topic")
	if fault != nil {
		return nil, fault
	}
	match, fault := c.match(1)
	if fault != nil {
		return nil, fault
	}
	if sub := r.subscriptions.get(match, topic); sub != nil {
		return wamp.List{sub.id}, nil
	}
	return wamp.List{nil}, nil
}

func (r *Realm) subscriptionMatch(c *metaCall) (wamp.List, *wamp.Error) {
	topic, fault := c.text(0, "topic")
	if fault != nil {
		return nil, fault
	}
	var ids wamp.List
	for _, sub := range r.subscriptions.appendMatches(nil, topic) {
		ids = append(ids, sub.id)
	}
	if ids == nil {
		return wamp.List{nil}, nil
	}
	return wamp.List{ids}, nil
}

// subscriptionOf returns the subscription that the first argument names.
func (r *Realm) subscriptionOf(c *metaCall) (*subscription, *wamp.Error) {
	id, fault := c.id(0)
	if fault != nil {
		return nil, fault
	}
	if sub := r.subscriptionByID[id]; sub != nil {
		return sub, nil
	}
	return nil, wamp.Errorf(wamp.ErrNoSuchSubscription, "there is no subscription %d", id)
}

func (r *Realm) subscriptionGet(c *metaCall) (wamp.List, *wamp.Error) {
	sub, fault := r.subscriptionOf(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{sub.details()}, nil
}

func (r *Realm) subscriptionListSubscribers(c *metaCall) (wamp.List, *wamp.Error) {
	sub, fault := r.subscriptionOf(c)
	if fault != nil {
		return nil, fault
	}
	ids := make(wamp.List, 0, len(sub.members))
	for _, mem := range sub.members {
		ids = append(ids, mem.session.ID)
	}
	return wamp.List{ids}, nil
}

func (r *Realm) subscriptionCountSubscribers(c *metaCall) (wamp.List, *wamp.Error) {
	sub, fault := r.subscriptionOf(c)
	if fault != nil {
		return nil, fault
	}
	return wamp.List{len(sub.members)}, nil
}
