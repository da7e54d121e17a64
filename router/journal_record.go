package router

import (
	"errors"
	"fmt"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// The record of an event on disk is a dictionary in CBOR. Its keys are short
// because each event has them; what is not there is empty.
const (
	keyVersion   = "v"
	keyAt        = "t"
	keyID        = "id"
	keyTopic     = "u"
	keyEncoding  = "e"
	keyArgs      = "a"
	keyKwArgs    = "k"
	keyPublisher = "p"
	keyAuthID    = "pi"
	keyAuthRole  = "pr"
	keyTrust     = "tl"
	keyPPT       = "ppt"
	keyLists     = "l"

	recordVersion = 1
)

// encodeKept encodes an event.
func encodeKept(k *realm.Kept) ([]byte, error) {
	d := wamp.Dict{keyVersion: int64(recordVersion), keyAt: int64(k.At), keyID: uint64(k.ID), keyTopic: k.Topic}
	if k.Payload.Enc != nil {
		d[keyEncoding] = k.Payload.Enc.Name()
	}
	for key, b := range map[string][]byte{keyArgs: k.Payload.Args, keyKwArgs: k.Payload.KwArgs} {
		if b != nil {
			d[key] = b
		}
	}
	e := &k.Details
	if e.Publisher != 0 {
		d[keyPublisher] = uint64(e.Publisher)
	}
	for key, text := range map[string]string{keyAuthID: e.PublisherAuthID, keyAuthRole: e.PublisherAuthRole} {
		if text != "" {
			d[key] = text
		}
	}
	if e.TrustLevel != nil {
		d[keyTrust] = *e.TrustLevel
	}
	if e.PPT != (wamp.Passthru{}) {
		d[keyPPT] = wamp.List{e.PPT.Scheme, e.PPT.Serializer, e.PPT.Cipher, e.PPT.KeyID}
	}
	all := wamp.List{}
	given := false
	for _, names := range [][]string{k.EligibleAuthID, k.EligibleAuthRole, k.ExcludeAuthID, k.ExcludeAuthRole} {
		if names == nil {
			all = append(all, nil)
			continue
		}
		given = true
		list := wamp.List{}
		for _, n := range names {
			list = append(list, n)
		}
		all = append(all, list)
	}
	if given {
		d[keyLists] = all
	}
	return codec.CBOR.AppendValue(nil, d)
}

// decodeKept decodes what encodeKept has made; the sequence number is not in
// there. Whoever can write the files can say what he wants in them, but nothing
// that a publisher could not.
func decodeKept(b []byte) (k realm.Kept, err error) {
	v, err := codec.CBOR.DecodeValue(b)
	if err != nil {
		return k, err
	}
	d, ok := v.(map[string]any)
	if !ok {
		return k, errors.New("the record is no dictionary")
	}
	if version, _ := wamp.AsInt(d, keyVersion); version != recordVersion {
		return k, fmt.Errorf("the record has version %v, want %d", d[keyVersion], recordVersion)
	}
	at, _ := wamp.AsInt(d, keyAt)
	id, _ := wamp.AsInt(d, keyID)
	k.At, k.ID, k.Topic = realm.Time(at), wamp.ID(id), wamp.AsString(d, keyTopic)
	if id < 1 || !k.ID.Valid() || at < 0 || !wamp.LooseURIs.ValidURI(k.Topic) || wamp.Reserved(k.Topic) {
		return k, errors.New("the record has no valid time, publication and topic")
	}
	k.Payload.Args, _ = d[keyArgs].([]byte)
	k.Payload.KwArgs, _ = d[keyKwArgs].([]byte)
	if k.Payload.Size() > 0 {
		enc, known := codec.ByName(wamp.AsString(d, keyEncoding))
		if !known {
			return k, errors.New("the record's payload has no known serialization")
		}
		k.Payload.Enc = enc
		if _, _, err := k.Payload.Values(); err != nil {
			return k, err
		}
	}
	publisher, _ := wamp.AsInt(d, keyPublisher)
	k.Details.Publisher = wamp.ID(publisher)
	k.Details.PublisherAuthID, k.Details.PublisherAuthRole = wamp.AsString(d, keyAuthID), wamp.AsString(d, keyAuthRole)
	if level, given := wamp.AsInt(d, keyTrust); given {
		k.Details.TrustLevel = &level
	}
	if ppt := wamp.AsList(d, keyPPT); len(ppt) == 4 {
		for i, field := range []*string{&k.Details.PPT.Scheme, &k.Details.PPT.Serializer, &k.Details.PPT.Cipher, &k.Details.PPT.KeyID} {
			*field, _ = ppt[i].(string)
		}
	}
	return k, decodeLists(&k, d)
}

// decodeLists decodes who may receive an event. One whose lists cannot be read is
// for nobody.
func decodeLists(k *realm.Kept, d wamp.Dict) error {
	if d[keyLists] == nil {
		return nil
	}
	all := wamp.AsList(d, keyLists)
	if len(all) != 4 {
		return errors.New("the record's lists are not four")
	}
	for i, field := range []*[]string{&k.EligibleAuthID, &k.EligibleAuthRole, &k.ExcludeAuthID, &k.ExcludeAuthRole} {
		if all[i] == nil {
			continue
		}
		names, ok := all[i].([]any)
		if !ok {
			return errors.New("the record's lists are none")
		}
		*field = make([]string, 0, len(names))
		for _, v := range names {
			name, isText := v.(string)
			if !isText {
				return errors.New("the record's lists are not of names")
			}
			*field = append(*field, name)
		}
	}
	return nil
}
