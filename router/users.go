package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/postern-iot/postern/wamp/auth"
)

// User is one user of a users file: a role, and what the router keeps to check
// that somebody is the user.
type User struct {
	AuthID       string                 `json:"authid"`
	Role         string                 `json:"role"`
	Ticket       *auth.TicketHash       `json:"ticket,omitempty"`
	CRA          *auth.CRAKey           `json:"wampcra,omitempty"`
	Scram        *auth.ScramKeys        `json:"scram,omitempty"`
	PublicKeys   []string               `json:"public_keys,omitempty"`
	Certificates []auth.CertificateName `json:"certificates,omitempty"`
}

// Users is what a users file holds.
type Users struct {
	// Seed makes salts for users that do not exist, always the same for the
	// same name, so that they cannot be told from those that do.
	Seed  []byte `json:"seed"`
	Users []User `json:"users"`
}

// maxUsersFile bounds a users file, in bytes: about 20,000 users.
const maxUsersFile = 16 << 20

// ReadUsers reads a users file. The error wraps fs.ErrNotExist when there is
// none.
func ReadUsers(path string) (*Users, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("users file %q: mode %v lets others read or change it: chmod 0600 it", path, info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	if len(text) > maxUsersFile {
		return nil, fmt.Errorf("users file %q has more than %d bytes", path, maxUsersFile)
	}
	u := &Users{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(u); err != nil {
		return nil, fmt.Errorf("users file %q: %w", path, err)
	}
	return u, u.check(path)
}

func (u *Users) check(path string) error {
	seen := map[string]bool{}
	for _, user := range u.Users {
		switch {
		case !validAuthID(user.AuthID):
			return fmt.Errorf("users file %q: %.300q is not a valid authid", path, user.AuthID)
		case seen[user.AuthID]:
			return fmt.Errorf("users file %q: user %q is there twice", path, user.AuthID)
		case user.Role == "":
			return fmt.Errorf("users file %q: user %q has no role", path, user.AuthID)
		}
		seen[user.AuthID] = true
		for _, k := range user.PublicKeys {
			if _, err := auth.ParsePublicKey(k); err != nil {
				return fmt.Errorf("users file %q: user %q: %w", path, user.AuthID, err)
			}
		}
		for _, n := range user.Certificates {
			if !n.Valid() {
				return fmt.Errorf("users file %q: user %q: %.100q names no certificate", path, user.AuthID, n)
			}
		}
	}
	return nil
}

// Write writes the file anew, for its owner only. Who reads it meanwhile sees
// the old one or the new one.
func (u *Users) Write(path string) error {
	text, err := json.MarshalIndent(u, "", "  ")
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	if err := u.check(path); err != nil {
		return err
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	return nil
}

// replaceFile writes a file with mode 0600, or that of the file it replaces
// when its group may read that.
func replaceFile(path string, text []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil && info.Mode().Perm() == 0o640 {
		mode = 0o640
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".postern-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
