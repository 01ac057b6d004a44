package cluster_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
)

// Whatever a client sends, a session gets a host, and the token of its write
// stays one.
func FuzzToken(f *testing.F) {
	c := signing(f, 77, cluster.SignedBy(otherKey, key))
	f.Add([]byte(nil))
	f.Add([]byte{1})
	f.Add(bytes.Repeat([]byte{1}, 8*part))
	f.Add(bytes.Repeat([]byte{1}, 10*part))
	f.Add(forge(77, at(50), 0))
	f.Fuzz(func(t *testing.T, token []byte) {
		signed := c.Sign(at(7), token)
		if len(signed)%part != 0 || len(signed) == 0 || len(signed) > 8*part {
			t.Errorf("a token of %d bytes became one of %d", len(token), len(signed))
		}
		p, now := needed(t, c, token), needed(t, c, signed)
		if p != (driver.Position{}) && p != at(50) {
			t.Errorf("%x was believed: %+v", token, p)
		}
		if now.Before(at(7)) || now.Before(p) {
			t.Errorf("%x was signed again as %x, which has %+v", token, signed, now)
		}
	})
}

// A token is believed where a part of it is one that a current key has signed, as
// it was signed, and in no other case.
func FuzzForgedToken(f *testing.F) {
	c := signing(f, 77, cluster.SignedBy(otherKey, key))
	signers := []*cluster.Cluster{
		signing(f, 77, cluster.SignedBy(key)), signing(f, 77, cluster.SignedBy(otherKey)),
		signing(f, 77, cluster.SignedBy(bytes.Repeat([]byte("f"), 32))), signing(f, 78, cluster.SignedBy(key)),
	}
	for who := range signers {
		f.Add(uint8(who), []byte(nil), []byte(nil), uint16(0), uint16(part))
		f.Add(uint8(who), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 255}, []byte(nil), uint16(0), uint16(part))
		f.Add(uint8(who), []byte(nil), bytes.Repeat([]byte{1}, part), uint16(0), uint16(2*part))
		f.Add(uint8(who), []byte(nil), bytes.Repeat([]byte{1}, 8*part), uint16(0), uint16(9*part))
		f.Add(uint8(who), []byte(nil), []byte(nil), uint16(1), uint16(part))
	}
	// Bytes of a good token are changed, others come before it, and a piece is cut out.
	f.Fuzz(func(t *testing.T, who uint8, changes, before []byte, from, to uint16) {
		signer := signers[int(who)%len(signers)]
		good := signer.Sign(at(50), nil) // now, or it would be too old after a while
		token := bytes.Clone(good)
		for i, b := range changes {
			token[i%part] ^= b
		}
		token = append(bytes.Clone(before), token...)
		end := min(int(to), len(token))
		token = token[min(int(from), end):end]

		intact := slices.ContainsFunc(slices.Collect(slices.Chunk(token, part)), func(p []byte) bool { return bytes.Equal(p, good) })
		believed := needed(t, c, token)
		switch may := intact && int(who)%len(signers) < 2 && len(token) <= 8*part; {
		case may && believed != at(50):
			t.Errorf("%x is not believed: %+v", token, believed)
		case !may && believed != (driver.Position{}):
			t.Errorf("%x is believed: %+v", token, believed)
		}
		if signed := c.Sign(at(7), token); len(signed)%part != 0 || len(signed) > 8*part {
			t.Errorf("%x was signed again as %x", token, signed)
		}
	})
}

// Looking for a signature in what a client sends is bounded.
func TestATokenWithMorePartsThanAnyHasIsNotLookedAt(t *testing.T) {
	c := signing(t, 77, cluster.SignedBy(key))
	token := c.Sign(at(50), bytes.Repeat(forge(78, at(1), time.Second), 7))
	equal(t, "the position of eight parts", needed(t, c, token), at(50))
	equal(t, "the position of nine", needed(t, c, append(bytes.Clone(token), forge(78, at(1), time.Second)...)), driver.Position{})
}
