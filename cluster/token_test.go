package cluster_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver"
)

var (
	key      = bytes.Repeat([]byte("k"), 32)
	otherKey = bytes.Repeat([]byte("o"), 32)
)

const part = 37

// signing returns a cluster of a system that has a replica, at 1/100.
func signing(t testing.TB, system int, opts ...cluster.Option) *cluster.Cluster {
	n := network()
	n.set("p", func(s *server) { s.row = postgres("f", 1, 100, system) })
	n.set("r", func(s *server) { s.row = postgres("t", 1, 100, system) })
	c := cluster.New(cluster.List("p", "r"), opts...)
	t.Cleanup(use(t, c, n))
	_ = route(t, c, writes)
	for route(t, c, reads).Host != "r" {
		time.Sleep(time.Millisecond)
	}
	return c
}

func at(number uint64) driver.Position { return driver.Position{Timeline: 1, Number: number} }

// needed is the position that the cluster reads from a token.
func needed(t testing.TB, c *cluster.Cluster, token []byte) driver.Position {
	t.Helper()
	return route(t, c, driver.RouteRequest{ReadOnly: true, Token: token}).After
}

// R14.
func TestATokenHasThePositionThatWasSignedIn37Bytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, another := signing(t, 77, cluster.SignedBy(key)), signing(t, 77, cluster.SignedBy(key))
		token := c.Sign(at(50), nil)
		equal(t, "length", len(token), part)
		equal(t, "the position in another process", needed(t, another, token), at(50))
		newest := c.Sign(driver.Newest, nil)
		goes(t, another, driver.RouteRequest{ReadOnly: true, Token: newest}, "p")
		goes(t, another, driver.RouteRequest{ReadOnly: true, Token: token, After: at(60)}, "r")
		equal(t, "the later of both", route(t, another, driver.RouteRequest{ReadOnly: true, Token: token, After: at(60)}).After, at(60))
		equal(t, "the later of both", route(t, another, driver.RouteRequest{ReadOnly: true, Token: token, After: at(40)}).After, at(50))
	})
}

func TestWithoutKeysThereAreNoTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, signs := signing(t, 77), signing(t, 77, cluster.SignedBy(key))
		equal(t, "token", len(c.Sign(at(50), nil)), 0)
		token := signs.Sign(at(50), nil)
		equal(t, "a token of another process", c.Sign(at(60), token), token)
		equal(t, "the position", needed(t, c, token), driver.Position{})
	})
}

func TestTokensAreMergedByMaximumAndPartsOfOtherClustersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := signing(t, 1, cluster.SignedBy(key)), signing(t, 2, cluster.SignedBy(otherKey))
		token := two.Sign(at(20), one.Sign(at(10), nil))
		equal(t, "length", len(token), 2*part)
		equal(t, "one's", needed(t, one, token), at(10))
		equal(t, "two's", needed(t, two, token), at(20))
		token = one.Sign(at(5), token) // an earlier one
		equal(t, "length", len(token), 2*part)
		equal(t, "one's", needed(t, one, token), at(10))
		equal(t, "two's", needed(t, two, token), at(20))
		token = one.Sign(at(30), token)
		equal(t, "length", len(token), 2*part)
		equal(t, "one's", needed(t, one, token), at(30))
		token = one.Sign(driver.Position{Timeline: 2, Number: 1}, token) // after a promotion
		goes(t, one, driver.RouteRequest{ReadOnly: true, Token: token}, "r")
		equal(t, "one's", needed(t, one, token), driver.Position{Timeline: 2, Number: 1})
		for system := 3; system < 20; system++ {
			token = signing(t, system, cluster.SignedBy(key)).Sign(at(1), token)
		}
		equal(t, "length", len(token), 8*part)
		equal(t, "the position of a part that had no place", needed(t, one, token), driver.Position{})
	})
}

func TestClustersWithTheSameKeyAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := signing(t, 1, cluster.SignedBy(key)), signing(t, 2, cluster.SignedBy(key))
		token := two.Sign(at(10), one.Sign(at(20), nil))
		equal(t, "length", len(token), 2*part)
		equal(t, "one's", needed(t, one, token), at(20))
		equal(t, "two's", needed(t, two, token), at(10))
	})
}

func TestATokenExpiresAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, other := signing(t, 77, cluster.SignedBy(key)), signing(t, 78, cluster.SignedBy(otherKey))
		token := other.Sign(at(40), c.Sign(at(50), nil))
		time.Sleep(29 * time.Second)
		equal(t, "after 29 seconds", needed(t, c, token), at(50))
		equal(t, "signed again, it is both parts", len(c.Sign(at(1), token)), 2*part)
		time.Sleep(2 * time.Second)
		equal(t, "after 31 seconds", needed(t, c, token), driver.Position{})
		again := c.Sign(at(1), token)
		equal(t, "signed again, it is", len(again), part) // else it would grow with each write
		equal(t, "the position", needed(t, c, again), at(1))
	})
}

// After an unknown commit reads go to the primary for thirty seconds, also where
// the client goes on writing.
func TestTheNewestPositionIsNotMadeToLastByLaterWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := signing(t, 77, cluster.SignedBy(key))
		token := c.Sign(driver.Newest, nil)
		for range 2 {
			time.Sleep(14 * time.Second)
			token = c.Sign(at(50), token)
			goes(t, c, driver.RouteRequest{ReadOnly: true, Token: token}, "p")
		}
		time.Sleep(3 * time.Second)
		equal(t, "after 31 seconds", needed(t, c, token), at(50))
		equal(t, "length", len(c.Sign(at(60), token)), part)
	})
}

// One whose clock is a little ahead is believed, a far one is not.
func TestATokenOfTheFutureIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := signing(t, 77, cluster.SignedBy(key))
		equal(t, "20 seconds ahead", needed(t, c, forge(77, at(50), 20*time.Second)), at(50))
		equal(t, "40 seconds ahead", needed(t, c, forge(77, at(50), 40*time.Second)), driver.Position{})
	})
}

// forge makes a token as a process does whose clock is ahead.
func forge(system uint64, p driver.Position, ahead time.Duration) []byte {
	h := fnv.New32a()
	_ = binary.Write(h, binary.BigEndian, system)
	b := []byte{1}
	b = binary.BigEndian.AppendUint32(b, h.Sum32())
	b = binary.BigEndian.AppendUint32(b, p.Timeline)
	b = binary.BigEndian.AppendUint64(b, p.Number)
	b = binary.BigEndian.AppendUint32(b, uint32(time.Now().Add(ahead).Unix()))
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(b)[:part]
}

func TestKeysAreChangedWithoutLosingATokenAndThenTheOldOneIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := signing(t, 77, cluster.SignedBy(key))
		ready := signing(t, 77, cluster.SignedBy(key, otherKey))
		during := signing(t, 77, cluster.SignedBy(otherKey, key))
		after := signing(t, 77, cluster.SignedBy(otherKey))
		token := before.Sign(at(50), nil)
		for _, c := range []*cluster.Cluster{before, ready, during} {
			equal(t, "the position of an old token", needed(t, c, token), at(50))
		}
		equal(t, "the position of an old token", needed(t, after, token), driver.Position{})
		token = during.Sign(at(10), token)
		equal(t, "length", len(token), part)
		for _, c := range []*cluster.Cluster{ready, during, after} {
			equal(t, "the position of a new token", needed(t, c, token), at(50))
		}
	})
}

func TestATokenThatWasChangedAnywhereIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := signing(t, 77, cluster.SignedBy(key))
		token := c.Sign(at(50), nil)
		for i := range token {
			for bit := range 8 {
				forged := bytes.Clone(token)
				forged[i] ^= 1 << bit
				if p := needed(t, c, forged); p != (driver.Position{}) {
					t.Fatalf("bit %d of byte %d: %+v", bit, i, p)
				}
			}
		}
		for n := range token {
			equal(t, "the position of a shorter one", needed(t, c, token[:n]), driver.Position{})
			equal(t, "the position of a longer one", needed(t, c, append(bytes.Clone(token), token[:n]...)), at(50))
		}
	})
}
