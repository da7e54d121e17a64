package profiles

import (
	"bytes"
	"fmt"
	"strings"
)

// Page is docs/boards.md: all that is known of the boards.
func Page() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Boards\n\nMade from `firmware-profiles/*.yaml` by `go test ./firmware-profiles -rewrite`. The pins, functions and pulls are those of the\n" +
		"makers' documentation; none of it was measured on a board.\n\n" +
		"| board | `--board` | CPU | appliance image |\n|---|---|---|---|\n")
	var boards []*Board
	for _, id := range IDs() {
		board, err := Load(id)
		if err != nil {
			return nil, err
		}
		boards = append(boards, board)
		image := "yes"
		if board.Appliance.Unavailable != "" {
			image = "no"
		}
		fmt.Fprintf(&b, "| [%s](#%s) | `%s` | %s, %s | %s |\n", board.Name, anchor(board.Name), id, board.SoC, board.Architecture, image)
	}
	for _, board := range boards {
		board.section(&b)
	}
	return b.Bytes(), nil
}

// anchor is how a heading is linked to.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == ' ':
			return '-'
		case r == '+' || r == ',':
			return -1
		}
		return r
	}, heading)
}

func (b *Board) section(out *bytes.Buffer) {
	fmt.Fprintf(out, "\n## %s\n\n", b.Name)
	for _, l := range b.Limits {
		fmt.Fprintf(out, "* %s.\n", l)
	}
	if b.Appliance.Unavailable != "" {
		fmt.Fprintf(out, "* No appliance image: %s.\n", b.Appliance.Unavailable)
	}
	out.WriteString("\n| console | speed | where |\n|---|---|---|\n")
	for _, c := range b.Consoles {
		fmt.Fprintf(out, "| `%s` | %d | %s |\n", c.Device, c.Baud, c.Doc)
	}
	if len(b.Buses) > 0 {
		out.WriteString("\n| bus | device | lines | config.txt |\n|---|---|---|---|\n")
		for _, bus := range b.Buses {
			fmt.Fprintf(out, "| %s | %s | %s | `%s` |\n", bus.Kind, strings.TrimSpace("`"+bus.Device+"` "+bus.Note), strings.Join(bus.Pins, ", "), bus.Enable)
		}
	}
	if len(b.Overlays) > 0 {
		out.WriteString("\n| overlay | what it does | parameters |\n|---|---|---|\n")
		for _, o := range b.Overlays {
			var parameters []string
			for _, p := range o.Parameters {
				word := "`" + p.Name + "`: " + p.Doc
				if p.Default != "" {
					word += " (" + p.Default + ")"
				}
				parameters = append(parameters, word)
			}
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", o.Name, o.Doc, strings.Join(parameters, "; "))
		}
	}
	if len(b.Header) == 0 {
		return
	}
	fmt.Fprintf(out, "\nThe header; its lines are on the GPIO chip `%s`.\n\n| pin | name | at boot | also | | pin | name | at boot | also |\n|--:|---|---|---|---|--:|---|---|---|\n", b.Chip)
	for i, p := range b.Header {
		also := strings.Join(p.Functions, ", ")
		if p.Note != "" {
			also = strings.TrimPrefix(also+"; "+p.Note, "; ")
		}
		fmt.Fprintf(out, "| %d | %s | %s | %s ", p.Pin, p.Name, p.Pull, also)
		if i%2 == 0 {
			out.WriteString("| ")
		} else {
			out.WriteString("|\n")
		}
	}
}
