package realm

import (
	"testing"
	"time"
)

func TestISO8601(t *testing.T) {
	at := time.Date(1890, 2, 27, 23, 59, 58, 7e6, time.UTC)
	for range 3000 {
		if got, want := Time(at.UnixNano()).iso8601(), at.Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("have %s, want %s", got, want)
		}
		at = at.Add(29*24*time.Hour + 1234567*time.Millisecond)
	}
}
