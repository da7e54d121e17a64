package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// person is the user that the gateway runs as.
type person struct {
	name   string
	uid    int
	known  bool
	groups []int
	// names are all groups of the machine, by their numbers.
	names map[int]string
}

// unit is what matters of the gateway's systemd unit.
type unit struct {
	path, user string
	groups     []string
	// stateDir is where systemd makes a folder for the gateway, "" if nowhere.
	stateDir string
}

// readUnit reads the unit where one is installed.
func readUnit(root string) (u unit) {
	for _, dir := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		path := filepath.Join(root, dir, "postern.service")
		content := text(path)
		if content == "" {
			continue
		}
		u.path, u.user = "/"+dir+"/postern.service", "root"
		for line := range strings.Lines(content) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch value = strings.TrimSpace(value); key {
			case "User":
				u.user = value
			case "SupplementaryGroups":
				u.groups = append(u.groups, strings.Fields(value)...)
			case "StateDirectory":
				first, _, _ := strings.Cut(value, " ")
				u.stateDir = "/var/lib/" + first
			}
		}
		return u
	}
	return u
}

// whom finds out whom the gateway runs as.
func (e *examination) whom() person {
	p := person{name: e.User, names: map[int]string{}}
	if p.name == "" {
		p.name = e.unit.user
	}
	primary := -1
	for line := range strings.Lines(text(e.at("/etc/passwd"))) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil {
			continue
		}
		if f[0] == p.name || p.name == "" && uid == e.UID {
			p.name, p.uid, primary, p.known = f[0], uid, gid, true
			break
		}
	}
	if primary >= 0 {
		p.groups = append(p.groups, primary)
	}
	for line := range strings.Lines(text(e.at("/etc/group"))) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 {
			continue
		}
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		p.names[gid] = f[0]
		if slices.Contains(strings.Split(f[3], ","), p.name) || e.User == "" && slices.Contains(e.unit.groups, f[0]) {
			p.groups = append(p.groups, gid)
		}
	}
	if !p.known && p.name == "" { // a container, say
		p.name, p.uid, p.known = "uid "+strconv.Itoa(e.UID), e.UID, true
	}
	return p
}

func (e *examination) who() string {
	if !e.user.known {
		e.problem("", fmt.Sprintf("there is no user %q", e.user.name), "the gateway is to run as that user, and would not start",
			"sudo useradd --system "+e.user.name)
		return ""
	}
	from := "the one who asks; --user NAME asks for another"
	switch {
	case e.User != "":
		from = "as asked"
	case e.unit.path != "":
		from = "by " + e.unit.path
	}
	return fmt.Sprintf("the gateway runs as %s (%s)", e.user.name, from)
}

// may says whether the user has the rights (read 4, write 2, search 1) by the
// mode of the file. It does not know access lists.
func (p *person) may(info fs.FileInfo, rights fs.FileMode) bool {
	uid, gid := owner(info)
	mode := info.Mode().Perm()
	switch {
	case p.uid == 0 || !p.known:
		return true
	case p.uid == uid:
		return mode>>6&rights == rights
	case slices.Contains(p.groups, gid):
		return mode>>3&rights == rights
	}
	return mode&rights == rights
}

// node examines whether a device's node is there and may be used. It reports
// false when it is not there, which the caller explains.
func (e *examination) node(path, who, usual string) bool {
	info, err := os.Stat(e.at(path))
	if err != nil {
		return false
	}
	if e.user.may(info, 6) {
		return true
	}
	_, gid := owner(info)
	group := e.user.names[gid]
	if info.Mode().Perm()&0o060 == 0o060 && gid != 0 && group != "" {
		e.problem("", fmt.Sprintf("%s may not open %s", e.user.name, path), who+"; the group "+group+" may open it",
			fmt.Sprintf("sudo usermod -aG %s %s, then start the gateway again", group, e.user.name))
		return true
	}
	e.problem("", fmt.Sprintf("%s may not open %s: only root may", e.user.name, path), who,
		fmt.Sprintf(`echo 'KERNEL=="%s", GROUP="%s", MODE="0660"' | sudo tee /etc/udev/rules.d/60-postern-%s.rules; sudo groupadd -f %s; sudo usermod -aG %s %s; sudo reboot`,
			pattern(filepath.Base(path)), usual, usual, usual, usual, e.user.name))
	return true
}

// pattern is a device's name for a udev rule: with any number.
func pattern(name string) string {
	return strings.TrimRight(name, "0123456789.") + "*"
}
