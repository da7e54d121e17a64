//go:build !unix

package doctor

import "io/fs"

// owner is whose a file is: on this system nobody's.
func owner(fs.FileInfo) (uid, gid int) { return 0, 0 }
