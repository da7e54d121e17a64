package system

// Throttled tells what the firmware of a Raspberry Pi sees of its supply and
// heat, now and since the start, in its own words: under_voltage,
// frequency_capped, throttled, soft_temperature_limit. ok is false on other
// machines. sys is /sys.
func Throttled(sys string) (now, before []string, ok bool) {
	m := machine{Params: Params{Sys: sys}}
	_, flags, err := m.throttled()
	if err != nil {
		return nil, nil, false
	}
	for _, f := range throttling {
		if flags[f.name] == true {
			now = append(now, f.name)
		}
		if flags[f.name+"_since_start"] == true {
			before = append(before, f.name)
		}
	}
	return now, before, true
}

// CardWear is how much of its life the worst memory card has behind it, in
// percent, and what it says of its reserve: 1 normal, 2 warning, 3 urgent, 0
// for nothing. ok is false where no card tells. sys is /sys.
func CardWear(sys string) (used, reserve int, ok bool) {
	m := machine{Params: Params{Sys: sys}}
	c, err := m.wear()
	return c.used, c.eol, err == nil
}
