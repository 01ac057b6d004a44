package cluster

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/fnv"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/dbscope/dbscope/driver"
)

// A token is made of parts, one for each cluster that was written to:
//
//	version 1, cluster 4, timeline 4, number 8, time of issue 4, signature 16
//
// The signature is HMAC-SHA-256 of what comes before it, cut to 16 bytes.
const (
	partLength   = 37
	signedLength = partLength - 16
	tokenVersion = 1
	maxParts     = 8  // longer ones are nobody's, and not looked at
	tokenLife    = 30 // seconds
)

// Sign implements [driver.Router].
func (c *Cluster) Sign(p driver.Position, token []byte) []byte {
	if len(c.keys) == 0 {
		return token
	}
	mine := c.view.Load().id
	now := time.Now().Unix()
	var kept [][]byte
	for part := range parts(token) {
		switch old, cluster, ok := c.verify(part, now); {
		case !inTime(part, now):
		case !ok || cluster != mine: // another cluster's, perhaps
			kept = append(kept, part)
		case old == driver.Newest && p != old: // stands until its time is over, and is not made to last
			kept = append(kept, part)
		case p.Before(old):
			p = old
		}
	}
	b := []byte{tokenVersion}
	b = binary.BigEndian.AppendUint32(b, mine)
	b = binary.BigEndian.AppendUint32(b, p.Timeline)
	b = binary.BigEndian.AppendUint64(b, p.Number)
	b = binary.BigEndian.AppendUint32(b, uint32(now)) //nolint:gosec // until 2106
	s := c.keys[0].sign(b)
	kept = append(kept, append(b, s[:]...))
	return bytes.Join(kept[max(0, len(kept)-maxParts):], nil)
}

// read returns the position that a token has for the cluster; the zero one
// where it has none that can be believed.
func (c *Cluster) read(token []byte, mine uint32) (after driver.Position) {
	now := time.Now().Unix()
	for part := range parts(token) {
		if p, of, ok := c.verify(part, now); ok && of == mine && after.Before(p) {
			after = p
		}
	}
	return after
}

// parts are those of a token; there are none in one that is too long.
func parts(token []byte) iter.Seq[[]byte] {
	if len(token) > maxParts*partLength {
		token = nil
	}
	return slices.Chunk(token, partLength)
}

// verify reads one part.
func (c *Cluster) verify(part []byte, now int64) (p driver.Position, cluster uint32, ok bool) {
	if !inTime(part, now) {
		return p, 0, false
	}
	for _, key := range c.keys {
		if s := key.sign(part[:signedLength]); hmac.Equal(s[:], part[signedLength:]) {
			p.Timeline, p.Number = binary.BigEndian.Uint32(part[5:]), binary.BigEndian.Uint64(part[9:])
			return p, binary.BigEndian.Uint32(part[1:]), true
		}
	}
	return p, 0, false
}

// inTime reports whether it is a part, and not too old. Clocks may differ.
func inTime(part []byte, now int64) bool {
	if len(part) != partLength || part[0] != tokenVersion {
		return false
	}
	issued := int64(binary.BigEndian.Uint32(part[17:]))
	return now-issued <= tokenLife && issued-now <= tokenLife
}

// key signs; it is here so that signing allocates nothing.
type key struct{ macs sync.Pool }

type mac struct {
	hash.Hash
	sum [sha256.Size]byte
}

func newKey(secret []byte) *key {
	secret = bytes.Clone(secret)
	return &key{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, secret)} }}}
}

func (k *key) sign(text []byte) (s [partLength - signedLength]byte) {
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.Reset()
	m.Write(text)
	copy(s[:], m.Sum(m.sum[:0]))
	return s
}

// shorten makes the cluster of a token.
func shorten(cluster uint64) uint32 {
	h := fnv.New32a()
	_ = binary.Write(h, binary.BigEndian, cluster)
	return h.Sum32()
}
