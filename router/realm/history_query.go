package realm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/postern-iot/postern/wamp"
)

// historyQuery is what a caller asks of a history: the events in [from, to) that
// fulfil the rest.
type historyQuery struct {
	from, to    int
	after, till Time // exclusive and inclusive
	topic       string
	limit       int
	reverse     bool
}

// noLimit is beyond what any history holds.
const noLimit = 1 << 30

// newHistoryQuery reads the keyword arguments of wamp.subscription.get_events;
// all conditions must hold. Those with a publication refer to the order in which
// the events came, so the event must be there.
func newHistoryQuery(kwargs wamp.Dict, kept []*record) (*historyQuery, *wamp.Error) {
	const never = Time(1<<63 - 1)
	q := &historyQuery{to: len(kept), after: -never, till: never, limit: noLimit}
	bad := func(key, want string) (*historyQuery, *wamp.Error) {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%s must be %s", key, want)
	}
	var ok bool
	if v := kwargs["reverse"]; v != nil {
		if q.reverse, ok = v.(bool); !ok {
			return bad("reverse", "true or false")
		}
	}
	if v := kwargs["topic"]; v != nil {
		if q.topic, ok = v.(string); !ok {
			return bad("topic", "a URI")
		}
	}
	if v := kwargs["limit"]; v != nil {
		n, ok := wamp.ToInt(v)
		if !ok || n <= 0 {
			return bad("limit", "a positive integer")
		}
		q.limit = int(min(n, noLimit))
	}
	for _, key := range []string{"from_time", "after_time", "before_time", "until_time"} {
		if kwargs[key] == nil {
			continue
		}
		text, _ := kwargs[key].(string)
		t, ok := parseTime(text)
		if !ok {
			return bad(key, "a timestamp such as 2026-01-31T12:00:00.000Z")
		}
		switch key {
		case "from_time":
			q.after = max(q.after, t-1)
		case "after_time":
			q.after = max(q.after, t)
		case "before_time":
			q.till = min(q.till, t-1)
		case "until_time":
			q.till = min(q.till, t)
		}
	}
	for _, key := range []string{"from_publication", "after_publication", "before_publication", "until_publication"} {
		if kwargs[key] == nil {
			continue
		}
		id, ok := wamp.ToInt(kwargs[key])
		if !ok || id <= 0 {
			return bad(key, "the ID of a publication")
		}
		at := slices.IndexFunc(kept, func(rec *record) bool { return rec.id == wamp.ID(id) })
		if at < 0 {
			return bad(key, "a publication that the history has; it may have been there")
		}
		switch key {
		case "from_publication":
			q.from = max(q.from, at)
		case "after_publication":
			q.from = max(q.from, at+1)
		case "before_publication":
			q.to = min(q.to, at)
		case "until_publication":
			q.to = min(q.to, at+1)
		}
	}
	return q, nil
}

// includes reports whether an event fulfils the conditions that are not about
// its place. Times are compared as they are shown, to the millisecond, so that a
// timestamp from an answer finds its event.
func (q *historyQuery) includes(rec *record) bool {
	at := rec.at - rec.at%1e6
	return at > q.after && at <= q.till && (q.topic == "" || rec.topic == q.topic)
}

// parseTime reads a timestamp of RFC 3339 between the years 1970 and 2261.
func parseTime(s string) (Time, bool) {
	// 2026-01-31T12:00:00 and then a fraction and the zone
	if len(s) < len("2026-01-31T12:00:00Z") || len(s) > 64 {
		return 0, false
	}
	var n [6]int64
	for i, part := range [6]struct {
		at, to int
		sep    string
		most   int64
	}{{0, 4, "-", 2261}, {5, 7, "-", 12}, {8, 10, "Tt ", 31}, {11, 13, ":", 23}, {14, 16, ":", 59}, {17, 19, ".,Zz+-", 60}} {
		v, err := strconv.ParseUint(s[part.at:part.to], 10, 16)
		if err != nil || int64(v) > part.most || !strings.Contains(part.sep, s[part.to:part.to+1]) {
			return 0, false
		}
		n[i] = int64(v)
	}
	if n[0] < 1970 || n[1] == 0 || n[2] == 0 || n[2] > daysOf(n[0], n[1]) {
		return 0, false
	}
	rest := s[19:]
	nanos := int64(0)
	if rest[0] == '.' || rest[0] == ',' {
		digits := 1
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		if digits == 1 {
			return 0, false
		}
		nanos, _ = strconv.ParseInt((rest[1:digits] + "000000000")[:9], 10, 64)
		rest = rest[digits:]
	}
	offset, ok := parseZone(rest)
	if !ok {
		return 0, false
	}
	seconds := daysFrom1970(n[0], n[1], n[2])*86_400 + n[3]*3600 + n[4]*60 + n[5] - offset
	return Time(seconds*1e9 + nanos), true
}

// parseZone reads the end of a timestamp: how many seconds local time is ahead.
func parseZone(s string) (seconds int64, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != len("+01:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	hours, err := strconv.ParseUint(s[1:3], 10, 8)
	minutes, err2 := strconv.ParseUint(s[4:6], 10, 8)
	if err != nil || err2 != nil || hours > 23 || minutes > 59 {
		return 0, false
	}
	seconds = int64(hours*3600 + minutes*60)
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func leap(year int64) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func daysOf(year, month int64) int64 {
	if month == 2 && leap(year) {
		return 29
	}
	return [...]int64{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

func daysFrom1970(year, month, day int64) int64 {
	y := year - 1
	days := 365*(year-1970) + y/4 - y/100 + y/400 - (1969/4 - 1969/100 + 1969/400)
	for m := int64(1); m < month; m++ {
		days += daysOf(year, m)
	}
	return days + day - 1
}
