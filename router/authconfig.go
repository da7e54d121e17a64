package router

import (
	"fmt"
	"slices"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// AuthConfig says how clients of a realm prove who they are.
type AuthConfig struct {
	Methods   []string        `yaml:"methods" enum:"ticket,wampcra,wamp-scram,scram,cryptosign,tls,cookie" doc:"the methods that are offered; left out for all that there are users, procedures or cookies for. The client's order decides between them"`
	UsersFile string          `yaml:"users_file" example:"users.json" doc:"file with users, which 'postern user' writes and which is read again when it changes; the path is relative to the config file"`
	Users     []UserConfig    `yaml:"users" doc:"users, beside those of the file"`
	Dynamic   []DynamicConfig `yaml:"dynamic" doc:"procedures that know users; a method that has one does not look at users or users_file"`
	Key       string          `yaml:"cryptosign_key" secret:"true" doc:"private key, 64 hexadecimal digits, with which the router proves itself to clients that ask for it with cryptosign; of no other use, since it signs what it is sent"`
}

// UserConfig is a user in the configuration.
type UserConfig struct {
	AuthID       string   `yaml:"authid" required:"true" doc:"the user's name"`
	Role         string   `yaml:"role" required:"true" doc:"the role that the user gets"`
	Secret       string   `yaml:"secret" secret:"true" doc:"ticket or password, for ticket, wampcra and SCRAM; write !file PATH to read it from a file"`
	PublicKeys   []string `yaml:"public_keys" single:"true" doc:"public keys for cryptosign, 64 hexadecimal digits each"`
	Certificates []string `yaml:"certificates" single:"true" doc:"TLS client certificates: sha256:FINGERPRINT, or subject:NAME for one that a trusted authority has signed"`
}

// DynamicConfig is a procedure that knows users.
type DynamicConfig struct {
	Method    string        `yaml:"method" required:"true" enum:"ticket,wampcra,wamp-scram,scram,cryptosign,tls" doc:"the method that it serves"`
	Procedure string        `yaml:"procedure" required:"true" doc:"the procedure in this realm, called with the realm, the authid and details; whoever may register it decides who joins"`
	Timeout   time.Duration `yaml:"timeout" min:"10ms" max:"30s" doc:"how long it may take; then nobody joins"`
}

// SetDefaults fills in what is not said.
func (c *DynamicConfig) SetDefaults() { c.Timeout = 3 * time.Second }

// CookieConfig is for browsers, which join again without asking.
type CookieConfig struct {
	Lifetime time.Duration `yaml:"lifetime" doc:"how long after authenticating over WebSocket a browser may join by its cookie (method cookie); 0 for never"`
	File     string        `yaml:"file" example:"cookies.json" doc:"file in which they outlive a restart; empty for none. The path is relative to the config file"`
}

// staticMethods are those that users can have credentials for.
var staticMethods = []string{
	auth.MethodTicket, auth.MethodCRA, auth.MethodScram, auth.MethodScramOld,
	auth.MethodCryptosign, auth.MethodTLS,
}

func (c *AuthConfig) validate(roles map[string]bool, report func(path, problem, hint string)) {
	for i, m := range c.Methods {
		oneOf(report, fmt.Sprintf("auth.methods[%d]", i), m, append(slices.Clone(staticMethods), auth.MethodCookie)...)
	}
	seen := map[string]bool{}
	for i := range c.Users {
		at, u := fmt.Sprintf("auth.users[%d]", i), &c.Users[i]
		if !validAuthID(u.AuthID) {
			report(at+".authid", "it is not a valid name", "write 1 to 256 printable characters")
		}
		if seen[u.AuthID] {
			report(at+".authid", fmt.Sprintf("user %q is there twice", u.AuthID), "join the two")
		}
		seen[u.AuthID] = true
		if !roles[u.Role] {
			report(at+".role", fmt.Sprintf("there is no role %q", u.Role), "define it under roles")
		}
		if u.Secret == "" && len(u.PublicKeys)+len(u.Certificates) == 0 {
			report(at, fmt.Sprintf("user %q cannot prove anything", u.AuthID), "give a secret, public_keys or certificates")
		}
		if len(u.Secret) > auth.MaxTicket {
			report(at+".secret", fmt.Sprintf("it has more than %d bytes", auth.MaxTicket), "is it the right file?")
		}
		for j, k := range u.PublicKeys {
			if _, err := auth.ParsePublicKey(k); err != nil {
				report(fmt.Sprintf("%s.public_keys[%d]", at, j), err.Error(), "'postern keys cryptosign' makes a pair of keys")
			}
		}
		for j, n := range u.Certificates {
			if !auth.CertificateName(n).Valid() {
				report(fmt.Sprintf("%s.certificates[%d]", at, j), "it names no certificate", "write sha256: and its fingerprint, or subject: and its subject")
			}
		}
	}
	methods := map[string]bool{}
	for i, d := range c.Dynamic {
		at := fmt.Sprintf("auth.dynamic[%d]", i)
		oneOf(report, at+".method", d.Method, staticMethods...)
		if methods[d.Method] {
			report(at+".method", fmt.Sprintf("there is another procedure for %s", d.Method), "keep one")
		}
		methods[d.Method] = true
		if !wamp.LooseURIs.ValidURI(d.Procedure) {
			report(at+".procedure", fmt.Sprintf("%q is not a valid URI", d.Procedure), "write components joined by dots")
		}
		if d.Timeout <= 0 {
			report(at+".timeout", "it is not more than 0", "leave it out for the default")
		}
	}
	if c.Key != "" {
		if _, err := auth.ParsePrivateKey(c.Key); err != nil {
			report("auth.cryptosign_key", err.Error(), "'postern keys cryptosign' makes a pair of keys")
		}
	}
}

// validAuthID keeps names short and printable: they stand in logs, and reach
// other clients.
func validAuthID(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return false
		}
	}
	return true
}
