package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

const page = 4096

// build makes a bolt file as raft's log makes one: two buckets, values of all
// sizes, pages freed again.
func build(tb testing.TB, keys int) []byte {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "a.db")
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{PageSize: page, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	update := func(f func(logs, conf *bbolt.Bucket) error) {
		err := db.Update(func(tx *bbolt.Tx) error {
			logs, err := tx.CreateBucketIfNotExists([]byte("logs"))
			if err != nil {
				return err
			}
			conf, err := tx.CreateBucketIfNotExists([]byte("conf"))
			if err != nil {
				return err
			}
			return f(logs, conf)
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	for i := range keys {
		update(func(logs, conf *bbolt.Bucket) error {
			return errors.Join(
				conf.Put([]byte("CurrentTerm"), []byte{1}),
				logs.Put(binary.BigEndian.AppendUint64(nil, uint64(i)), bytes.Repeat([]byte{byte(i)}, i*97%10000)),
			)
		})
	}
	update(func(logs, _ *bbolt.Bucket) error {
		for i := range keys / 3 {
			if err := logs.Delete(binary.BigEndian.AppendUint64(nil, uint64(i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// ours lists what Check visits.
func ours(data []byte) (map[string]string, error) {
	found := map[string]string{}
	err := Check(bytes.NewReader(data), int64(len(data)), page, func(bucket string, key, value []byte) error {
		found[bucket+"/"+string(key)] = string(value)
		return nil
	})
	return found, err
}

// theirs lists what bbolt finds. It panics on what Check must refuse.
func theirs(tb testing.TB, data []byte) map[string]string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "b.db")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	found := map[string]string{}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				found[string(bucket)+"/"+string(k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func same(tb testing.TB, data []byte) {
	tb.Helper()
	got, err := ours(data)
	if err != nil {
		tb.Fatal(err)
	}
	want := theirs(tb, data)
	if len(got) != len(want) {
		tb.Errorf("%d keys, bbolt finds %d", len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			tb.Errorf("key %q: %d bytes, bbolt finds %d", k, len(got[k]), len(v))
		}
	}
}

func TestSoundFilesPass(t *testing.T) {
	for _, keys := range []int{0, 1, 10, 300} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) { same(t, build(t, keys)) })
	}
}

func TestOneBadMetaIsByDesign(t *testing.T) {
	for i := range 2 {
		data := build(t, 10)
		data[i*page+20] ^= 1
		same(t, data)
	}
}

// reseal gives the meta pages a right checksum again.
func reseal(data []byte) {
	for i := range 2 {
		p := data[i*page+headerSize:]
		h := fnv.New64a()
		_, _ = h.Write(p[:56])
		binary.LittleEndian.PutUint64(p[56:], h.Sum64())
	}
}

func TestDamageIsNamed(t *testing.T) {
	// put64 and put16 write to both meta pages, at an offset in the meta.
	put64 := func(d []byte, off int, v uint64) {
		for i := range 2 {
			binary.LittleEndian.PutUint64(d[i*page+headerSize+off:], v)
		}
		reseal(d)
	}
	root := func(d []byte) []byte {
		m, err := readMeta(bytes.NewReader(d), int64(len(d)), page)
		if err != nil {
			t.Fatal(err)
		}
		return d[m.root*page:]
	}
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"empty":           {func([]byte) []byte { return nil }, "meta page"},
		"cut":             {func(d []byte) []byte { return d[:4*page] }, "truncated"},
		"other file":      {func(d []byte) []byte { return bytes.Repeat([]byte("text"), len(d)/4) }, "meta page"},
		"root is a meta":  {func(d []byte) []byte { put64(d, 16, 1); return d }, "root is page 1"},
		"root is far":     {func(d []byte) []byte { put64(d, 16, 1<<60); return d }, "root is page"},
		"many pages":      {func(d []byte) []byte { put64(d, 40, 1<<62); return d }, "truncated"},
		"free list far":   {func(d []byte) []byte { put64(d, 32, 1<<40); return d }, "free pages"},
		"page number":     {func(d []byte) []byte { root(d)[0] ^= 0x80; return d }, "says that it is page"},
		"page flags":      {func(d []byte) []byte { root(d)[8] = 0x40; return d }, "neither branch nor leaf"},
		"element count":   {func(d []byte) []byte { root(d)[10], root(d)[11] = 0xff, 0xff; return d }, "room for fewer"},
		"overflow":        {func(d []byte) []byte { root(d)[14] = 0xff; return d }, "overflows"},
		"element far":     {func(d []byte) []byte { root(d)[headerSize+6] = 0xff; return d }, "outside of the page"},
		"element flags":   {func(d []byte) []byte { root(d)[headerSize] = 9; return d }, "unknown flags"},
		"key order":       {func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("conf"), []byte("zonf")) }, "out of order"},
		"visit's own say": {func(d []byte) []byte { return d }, "a test objects"},
	} {
		t.Run(name, func(t *testing.T) {
			data := c.damage(build(t, 60))
			err := Check(bytes.NewReader(data), int64(len(data)), page, func(string, []byte, []byte) error {
				return errors.New("a test objects")
			})
			if name != "visit's own say" {
				_, err = ours(data)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// FuzzCheck patches a sound file anywhere and mends the checksums of its meta
// pages, so that the damage is met further in. What passes must hold for bbolt.
func FuzzCheck(f *testing.F) {
	base := build(f, 40)
	f.Add(uint32(0), []byte{})
	f.Add(uint32(2*page), []byte{9, 9})
	f.Add(uint32(3*page+8), []byte{2, 0, 255, 255})
	f.Add(uint32(4*page+16), []byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Add(uint32(headerSize+16), []byte{7})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(base)
		copy(data[int(at)%len(data):], patch)
		reseal(data)
		_, _ = ours(data[:int(at)%len(data)]) // must return
		if _, err := ours(data); err == nil {
			same(t, data)
		}
	})
}
