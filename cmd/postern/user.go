package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp/auth"
)

// userOptions are the flags that say which users file is meant.
type userOptions struct{ file, config, realm string }

func newUser() *cobra.Command {
	var o userOptions
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Manage the users of a users file",
		Long: "user adds, removes and lists the users of a file that realms[].auth.users_file names.\n" +
			"A running gateway notices the change by itself.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.file, "file", "", "users file; left out, it is the one that the configuration names")
	f.StringVarP(&o.config, "config", "c", "postern.yaml", "configuration that names the users file")
	f.StringVar(&o.realm, "realm", "", "realm whose users file it is; left out, the realm of the devices")
	cmd.AddCommand(newUserAdd(&o), newUserList(&o), newUserRemove(&o))
	return cmd
}

// open reads the users file; one that is not there yet has no users. roles are
// those of its realm, nil when they are not known.
func (o *userOptions) open() (path string, users *router.Users, roles []string, err error) {
	path = o.file
	if path == "" {
		cfg, err := config.Load(o.config, all.Table())
		if err != nil {
			return "", nil, nil, &exitError{status: exitUsage, err: fmt.Errorf("%w\n  hint: --file names the users file itself", err)}
		}
		name := o.realm
		if name == "" {
			name = cfg.HomeRealm()
		}
		i := slices.IndexFunc(cfg.Router.Realms, func(r router.RealmConfig) bool { return r.Name == name })
		if i < 0 {
			return "", nil, nil, usage("%s has no realm %q", o.config, name)
		}
		r := cfg.Router.Realms[i]
		if path = r.Auth.UsersFile; path == "" {
			return "", nil, nil, usage("realm %q in %s names no users file; write\nauth: {users_file: users.json}", name, o.config)
		}
		roles = []string{router.RoleTrusted}
		for _, role := range r.Roles {
			roles = append(roles, role.Name)
		}
	}
	users, err = router.ReadUsers(path)
	if errors.Is(err, fs.ErrNotExist) {
		users, err = &router.Users{Seed: []byte(rand.Text())}, nil
	}
	return path, users, roles, err
}

// userAdd are the flags of user add.
type userAdd struct {
	role         string
	methods      []string
	keys         []string
	certificates []string
	generate     bool
	replace      bool
}

var secretMethods = []string{auth.MethodTicket, auth.MethodCRA, "scram"}

func newUserAdd(o *userOptions) *cobra.Command {
	var a userAdd
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Add a user, with a secret from standard input or a generated one",
		Long: "add reads the secret from the first line of standard input; with --generate it makes one and shows it,\n" +
			"once. No secret is ever an argument. The file keeps hashes, of which only that for wampcra is as good as\n" +
			"the password, for joining here.",
		Example: "  postern user add alice --role operator --generate\n" +
			"  postern user add pump7 --role device --method cryptosign --public-key 545efb0a…\n" +
			"  postern user add bob --role viewer --method scram < bob.secret",
		Args: needs("the user's name", 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd, o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&a.role, "role", "", "the user's role (required)")
	f.StringSliceVar(&a.methods, "method", nil, "methods to store the secret for: ticket, wampcra, scram; left out for all three, or none when there is a key or certificate")
	f.StringSliceVar(&a.keys, "public-key", nil, "public key for cryptosign; 'postern keys cryptosign' makes a pair")
	f.StringSliceVar(&a.certificates, "certificate", nil, "TLS client certificate: sha256:FINGERPRINT or subject:NAME")
	f.BoolVar(&a.generate, "generate", false, "make a secret and show it")
	f.BoolVar(&a.replace, "replace", false, "replace the user if there is one already")
	return cmd
}

func (a *userAdd) run(cmd *cobra.Command, o *userOptions, name string) error {
	path, users, roles, err := o.open()
	if err != nil {
		return err
	}
	if a.role == "" {
		return usage("--role is missing: what may the user do?")
	}
	if roles != nil && !slices.Contains(roles, a.role) {
		return usage("--role: the realm has no role %q; its roles are %s", a.role, strings.Join(roles, ", "))
	}
	u, secret, err := a.user(cmd, name)
	if err != nil {
		return err
	}
	switch i := slices.IndexFunc(users.Users, func(u router.User) bool { return u.AuthID == name }); {
	case i < 0:
		users.Users = append(users.Users, *u)
	case !a.replace:
		return usage("there is a user %q already; --replace replaces it", name)
	default:
		users.Users[i] = *u
	}
	if err := users.Write(path); err != nil {
		return err
	}
	if a.generate {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "added %s to %s\n", name, path)
	return err
}

// user makes the user, and its secret.
func (a *userAdd) user(cmd *cobra.Command, name string) (u *router.User, secret string, err error) {
	u = &router.User{AuthID: name, Role: a.role, PublicKeys: a.keys}
	for _, c := range a.certificates {
		u.Certificates = append(u.Certificates, auth.CertificateName(c))
	}
	methods := slices.DeleteFunc(slices.Clone(a.methods), func(m string) bool {
		return m == auth.MethodCryptosign && len(a.keys) > 0 || m == auth.MethodTLS && len(a.certificates) > 0
	})
	if len(a.methods) == 0 && len(a.keys)+len(a.certificates) == 0 {
		methods = secretMethods
	}
	for _, m := range methods {
		if !slices.Contains(secretMethods, m) && m != auth.MethodScram {
			return nil, "", usage("--method: %q is not one of ticket, wampcra, scram; keys and certificates have flags of their own", m)
		}
	}
	if len(methods) == 0 {
		return u, "", nil
	}
	if a.generate {
		secret = rand.Text()
	} else if secret, err = readSecret(cmd.InOrStdin()); err != nil {
		return nil, "", err
	}
	for _, m := range methods {
		switch m {
		case auth.MethodTicket:
			u.Ticket = auth.HashTicket(secret, nil)
		case auth.MethodCRA:
			u.CRA = auth.NewCRAKey(secret, nil)
		default:
			if u.Scram, err = auth.NewScramKeys(secret, auth.DefaultScramParams("", nil)); err != nil {
				return nil, "", err
			}
		}
	}
	return u, secret, nil
}

// readSecret reads the first line.
func readSecret(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, auth.MaxTicket+2)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" || len(line) > auth.MaxTicket {
		return "", usage("the secret, the first line of standard input, is empty or too long; --generate makes one")
	}
	return line, nil
}

func newUserList(o *userOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users, their roles and methods",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, users, _, err := o.open()
			if err != nil {
				return err
			}
			for _, u := range users.Users {
				var methods []string
				for _, m := range []struct {
					name string
					has  bool
				}{
					{"ticket", u.Ticket != nil},
					{"wampcra", u.CRA != nil},
					{"scram", u.Scram != nil},
					{"cryptosign", len(u.PublicKeys) > 0},
					{"tls", len(u.Certificates) > 0},
				} {
					if m.has {
						methods = append(methods, m.name)
					}
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\t%s\n", u.AuthID, u.Role, strings.Join(methods, ",")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newUserRemove(o *userOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user; sessions that have joined go on",
		Args:  needs("the user's name", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, users, _, err := o.open()
			if err != nil {
				return err
			}
			n := len(users.Users)
			users.Users = slices.DeleteFunc(users.Users, func(u router.User) bool { return u.AuthID == args[0] })
			if len(users.Users) == n {
				return fmt.Errorf("%s has no user %q", path, args[0])
			}
			if err := users.Write(path); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %s from %s\n", args[0], path)
			return err
		},
	}
}
