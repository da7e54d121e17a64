package homeassistant

import "strings"

// long are the keys that abbreviations stand for, of those that are read here:
// https://www.home-assistant.io/integrations/mqtt/#supported-abbreviations-in-mqtt-discovery-messages
var long = map[string]string{
	"avty": "availability", "avty_mode": "availability_mode", "avty_t": "availability_topic", "avty_tpl": "availability_template",
	"bri_cmd_t": "brightness_command_topic", "bri_scl": "brightness_scale", "cmd_t": "command_topic", "cmd_tpl": "command_template",
	"cmps": "components", "dev": "device", "dev_cla": "device_class", "ent_cat": "entity_category", "max": "max", "min": "min",
	"o": "origin", "obj_id": "object_id", "ops": "options", "p": "platform", "pl_avail": "payload_available", "pl_cls": "payload_close",
	"pl_lock": "payload_lock", "pl_not_avail": "payload_not_available", "pl_off": "payload_off", "pl_on": "payload_on",
	"pl_open": "payload_open", "pl_prs": "payload_press", "pl_stop": "payload_stop", "pl_unlk": "payload_unlock", "ret": "retain",
	"stat_cla": "state_class", "stat_off": "state_off", "stat_on": "state_on", "stat_t": "state_topic", "stat_tpl": "state_template",
	"stat_val_tpl": "state_value_template", "stat_locked": "state_locked", "stat_unlocked": "state_unlocked", "t": "topic",
	"uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template", "schema": "schema",

	"act_t": "action_topic", "act_tpl": "action_template", "bri_cmd_tpl": "brightness_command_template", "bri_stat_t": "brightness_state_topic",
	"bri_val_tpl": "brightness_value_template", "clr_temp_cmd_t": "color_temp_command_topic", "clr_temp_cmd_tpl": "color_temp_command_template",
	"clr_temp_stat_t": "color_temp_state_topic", "clr_temp_val_tpl": "color_temp_value_template", "curr_temp_t": "current_temperature_topic",
	"curr_temp_tpl": "current_temperature_template", "fan_mode_cmd_t": "fan_mode_command_topic", "fan_mode_cmd_tpl": "fan_mode_command_template",
	"fan_mode_stat_t": "fan_mode_state_topic", "fan_mode_stat_tpl": "fan_mode_state_template", "max_mirs": "max_mireds", "min_mirs": "min_mireds",
	"mode_cmd_t": "mode_command_topic", "mode_cmd_tpl": "mode_command_template", "mode_stat_t": "mode_state_topic", "mode_stat_tpl": "mode_state_template",
	"osc_cmd_t": "oscillation_command_topic", "osc_cmd_tpl": "oscillation_command_template", "osc_stat_t": "oscillation_state_topic",
	"osc_val_tpl": "oscillation_value_template", "pct_cmd_t": "percentage_command_topic", "pct_cmd_tpl": "percentage_command_template",
	"pct_stat_t": "percentage_state_topic", "pct_val_tpl": "percentage_value_template", "pl_osc_off": "payload_oscillation_off",
	"pl_osc_on": "payload_oscillation_on", "pos_clsd": "position_closed", "pos_open": "position_open", "pos_t": "position_topic",
	"pos_tpl": "position_template", "pr_mode_cmd_t": "preset_mode_command_topic", "pr_mode_cmd_tpl": "preset_mode_command_template",
	"pr_mode_stat_t": "preset_mode_state_topic", "pr_mode_val_tpl": "preset_mode_value_template", "pr_modes": "preset_modes",
	"set_pos_t": "set_position_topic", "set_pos_tpl": "set_position_template", "spd_rng_max": "speed_range_max",
	"temp_cmd_t": "temperature_command_topic", "temp_cmd_tpl": "temperature_command_template", "temp_stat_t": "temperature_state_topic",
	"temp_stat_tpl": "temperature_state_template", "tilt_cmd_t": "tilt_command_topic", "tilt_cmd_tpl": "tilt_command_template",
	"tilt_status_t": "tilt_status_topic", "tilt_status_tpl": "tilt_status_template",
}

// longDevice are those within device and origin.
var longDevice = map[string]string{
	"cns": "connections", "cu": "configuration_url", "ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version",
	"hw": "hw_version", "sn": "serial_number", "sa": "suggested_area", "url": "support_url",
}

// spellOut replaces abbreviated keys; a key that is there in full comes first.
func spellOut(d map[string]any, names map[string]string) map[string]any {
	out := make(map[string]any, len(d))
	for k, v := range d {
		if full, ok := names[k]; ok {
			if _, there := d[full]; there && full != k {
				continue
			}
			k = full
		}
		out[k] = v
	}
	return out
}

// withBase replaces ~ at either end of topics by the base.
func withBase(d map[string]any, base string) {
	for k, v := range d {
		s, ok := v.(string)
		if !ok || k != "topic" && !strings.HasSuffix(k, "_topic") {
			continue
		}
		if rest, cut := strings.CutPrefix(s, "~"); cut {
			s = base + rest
		}
		if rest, cut := strings.CutSuffix(s, "~"); cut {
			s = rest + base
		}
		d[k] = s
	}
}

// Slug is s as a URI component that every realm takes: a-z, 0-9 and _.
func Slug(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		if b.Len() >= 64 {
			break
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		} else {
			b.WriteByte('_')
		}
	}
	return b.String()
}
