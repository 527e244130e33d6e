package pack

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// attrKey is the name of an attribute in an archive, where "=" ends names: GNU tar
// writes it so, and reads it.
func attrKey(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "%", "%25"), "=", "%3D")
}

// aclText is an ACL as archives have it, from what the kernel's attribute holds: a
// header of 4 bytes, then entries of tag (2), permissions (2) and id (4).
func aclText(acl []byte) string {
	const user, group = 2, 8
	words := map[uint16]string{1: "user", user: "user", 4: "group", group: "group", 0x10: "mask", 0x20: "other"}
	le := binary.LittleEndian
	var out []string
	for i := 4; i+8 <= len(acl); i += 8 {
		tag, perm, id := le.Uint16(acl[i:]), le.Uint16(acl[i+2:]), ""
		if tag == user || tag == group {
			id = strconv.FormatUint(uint64(le.Uint32(acl[i+4:])), 10)
		}
		word, ok := words[tag]
		if !ok {
			continue
		}
		rwx := []byte("---")
		for n, c := range "rwx" {
			if perm&(4>>n) != 0 {
				rwx[n] = byte(c)
			}
		}
		out = append(out, word+":"+id+":"+string(rwx))
	}
	return strings.Join(out, ",")
}
