package homeassistant

type unitClass struct{ unit, class string }

// units are Home Assistant's for those of UCUM, with the device class that the
// unit alone tells. The pairs are those that
// https://www.home-assistant.io/integrations/sensor/#device-class allows.
var units = map[string]unitClass{
	"":       {},
	"1":      {},
	"%":      {"%", ""},
	"Cel":    {"°C", "temperature"},
	"[degF]": {"°F", "temperature"},
	"K":      {"K", "temperature"},
	"Pa":     {"Pa", "pressure"},
	"hPa":    {"hPa", "pressure"},
	"kPa":    {"kPa", "pressure"},
	"bar":    {"bar", "pressure"},
	"mbar":   {"mbar", "pressure"},
	"V":      {"V", "voltage"},
	"mV":     {"mV", "voltage"},
	"A":      {"A", "current"},
	"mA":     {"mA", "current"},
	"W":      {"W", "power"},
	"kW":     {"kW", "power"},
	"VA":     {"VA", "apparent_power"},
	"W.h":    {"Wh", "energy"},
	"Wh":     {"Wh", "energy"},
	"kW.h":   {"kWh", "energy"},
	"kWh":    {"kWh", "energy"},
	"J":      {"J", "energy"},
	"Hz":     {"Hz", "frequency"},
	"lx":     {"lx", "illuminance"},
	"s":      {"s", "duration"},
	"ms":     {"ms", "duration"},
	"min":    {"min", "duration"},
	"h":      {"h", "duration"},
	"d":      {"d", "duration"},
	"By":     {"B", "data_size"},
	"kBy":    {"kB", "data_size"},
	"MBy":    {"MB", "data_size"},
	"m":      {"m", "distance"},
	"cm":     {"cm", "distance"},
	"mm":     {"mm", "distance"},
	"km":     {"km", "distance"},
	"m/s":    {"m/s", "speed"},
	"km/h":   {"km/h", "speed"},
	"g":      {"g", "weight"},
	"kg":     {"kg", "weight"},
	"l":      {"L", ""},
	"L":      {"L", ""},
	"m3":     {"m³", ""},
	"l/min":  {"L/min", "volume_flow_rate"},
	"L/min":  {"L/min", "volume_flow_rate"},
	"m3/h":   {"m³/h", "volume_flow_rate"},
	"deg":    {"°", ""},
	"dB":     {"dB", ""},
	"[ppm]":  {"ppm", ""},
	"ppm":    {"ppm", ""},
}

// classByName is the class of readings whose unit alone does not tell, but whose
// name does.
var classByName = map[string]unitClass{
	"humidity":     {"%", "humidity"},
	"battery":      {"%", "battery"},
	"moisture":     {"%", "moisture"},
	"power_factor": {"%", "power_factor"},
	"co2":          {"ppm", "carbon_dioxide"},
	"rssi":         {"dB", "signal_strength"},
}

// ucums are UCUM's signs for Home Assistant's units.
var ucums = func() map[string]string {
	all := map[string]string{}
	for sign, u := range units {
		if before, taken := all[u.unit]; u.unit != "" && (!taken || sign < before) {
			all[u.unit] = sign
		}
	}
	return all
}()

// ucum is UCUM's sign for a unit of Home Assistant, the unit itself where there
// is none.
func ucum(unit string) string { return orElse(ucums[unit], unit) }
