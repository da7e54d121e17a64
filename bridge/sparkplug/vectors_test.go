package sparkplug

// vectors are what protoc 3.21 makes of the definition in the specification,
// with protoc --encode Payload.
var vectors = []struct {
	payload Payload
	hex     string
}{
	{
		Payload{Timestamp: 1700000000000, Metrics: []Metric{{Name: "bdSeq", Timestamp: 1700000000000, Type: Int64, Value: int64(255)}}},
		"0880d095ffbc3112130a0562645365711880d095ffbc31200458ff01",
	},
	{
		Payload{Timestamp: 1, HasSeq: true, Metrics: []Metric{{Name: "Node Control/Rebirth", Type: Boolean, Value: false}}},
		"0801121a0a144e6f646520436f6e74726f6c2f52656269727468200b70001800",
	},
	{
		Payload{Timestamp: 2, HasSeq: true, Seq: 255, Metrics: []Metric{{Name: "flow", Alias: 7, HasAlias: true, Timestamp: 3, Type: Double, Value: -2.5, Unit: "l/min", Quality: Good}}},
		"0802123b0a04666c6f7710071803200a4a240a07656e67556e69740a075175616c6974791209080c42056c2f6d696e1205080318c0016900000000000004c018ff01",
	},
	{
		Payload{Timestamp: 2, HasSeq: true, Seq: 1, Metrics: []Metric{{Alias: 300, HasAlias: true, Timestamp: 3, Type: Double, Quality: Bad}, {HasAlias: true, Type: String, Value: "grün"}}},
		"0802121a10ac021803200a38014a0f0a075175616c697479120408031800120b1000200c7a056772c3bc6e1801",
	},
	{
		Payload{Timestamp: 2, Metrics: []Metric{{Name: "a", Type: Int32, Value: int64(-1)}, {Name: "b", Type: Int64, Value: int64(-1)}, {Name: "c", Type: Float, Value: 0.5}, {Name: "d", Type: UInt16, Value: uint64(65535)}, {Name: "e", Type: UInt64, Value: uint64(18446744073709551615)}}},
		"0802120b0a0161200350ffffffff0f12100a0162200458ffffffffffffffffff01120a0a01632009650000003f12090a0164200650ffff0312100a0165200858ffffffffffffffffff01",
	},
}
