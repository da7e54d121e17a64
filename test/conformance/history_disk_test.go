package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
)

// kept runs a gateway with a history in a directory.
func kept(t *testing.T, dir string) (*gateway, *peer) {
	t.Helper()
	g := run(t, fmt.Sprintf("state_dir: %s\nmqtt: {enabled: false}\n"+
		"realms: [{name: realm1, anonymous: full, history: [{uri: com.log, disk: true}]}]\n", dir))
	p := open(t, g, "rawsocket", codec.JSON)
	p.joins("realm1")
	return g, p
}

// tells publishes an event, and waits until it is in its file.
func (p *peer) tells(g *gateway, request int, text string) {
	p.tb.Helper()
	p.send(fmt.Sprintf(`[16,%d,{"acknowledge":true},"com.log",[%q]]`, request, text))
	p.expect(fmt.Sprintf(`[17,%d,$published]`, request))
	until(p.tb, "the event is written", func() bool {
		resp, err := http.Get("http://" + g.http + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && bytes.Contains(b, []byte(`postern_realm_history_unwritten{realm="realm1"} 0`))
	})
}

// remembers checks the first argument of every event that is there.
func (p *peer) remembers(request int, want ...any) {
	p.tb.Helper()
	p.send(fmt.Sprintf(`[48,%d,{},"wamp.subscription.get_events",[1]]`, request))
	message, err := p.hear()
	if err != nil {
		p.tb.Fatal(err)
	}
	list := message.([]any)
	if len(list) < 4 {
		p.tb.Fatalf("heard %s, want events", show(message))
	}
	got := []any{}
	for _, e := range list[3].([]any) {
		got = append(got, e.(map[string]any)["args"].([]any)[0])
	}
	if !reflect.DeepEqual(got, want) {
		p.tb.Fatalf("the history has %v, want %v", got, want)
	}
}

// TestHistoryKilled: the history of a gateway that was killed is there when it
// is started again. A record that was cut off is missing, and what is damaged is
// told and never served.
func TestHistoryKilled(t *testing.T) {
	dir := t.TempDir()
	die := func(g *gateway) string {
		_ = g.cmd.Process.Kill()
		<-g.done
		files, err := filepath.Glob(filepath.Join(dir, "history", "realm1", "*.spool"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files %q, %v", files, err)
		}
		return files[0]
	}
	g, p := kept(t, dir)
	p.tells(g, 1, "the-first")
	p.tells(g, 2, "the-second")
	die(g)

	g, p = kept(t, dir)
	p.remembers(1, "the-first", "the-second")
	p.tells(g, 2, "the-third")
	file := die(g)
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, info.Size()-3)
	}
	if err != nil {
		t.Fatal(err)
	}

	g, p = kept(t, dir)
	p.remembers(1, "the-first", "the-second")
	p.tells(g, 2, "the-fourth")
	file = die(g)
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.Replace(b, []byte("the-second"), []byte("the-sXcond"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	g, p = kept(t, dir)
	p.remembers(1, "the-first", "the-fourth")
	if !strings.Contains(g.said(), "the history's files are damaged") {
		t.Error("nobody is told of the damage")
	}
}
