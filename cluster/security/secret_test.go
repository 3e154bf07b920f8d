package security

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/cluster/registry"
)

func TestASecretOpensForItsPurposeAndClusterAlone(t *testing.T) {
	dir, id := create(t, "n1")
	_, stranger := create(t, "n1")
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed := id.SealSecret("certificate api", "the key")
	if !strings.HasPrefix(sealed, registry.SealedPrefix) || strings.Contains(sealed, "the key") {
		t.Fatalf("sealed as %s", sealed)
	}
	if again.SealSecret("certificate api", "the key") != sealed {
		t.Error("the same secret is sealed in two ways: a document applied twice would be a change")
	}
	if id.SealSecret("certificate api", "the kez") == sealed || id.SealSecret("certificate app", "the key") == sealed || stranger.SealSecret("certificate api", "the key") == sealed {
		t.Error("other secrets are sealed alike")
	}
	flipped := []byte(sealed)
	flipped[len(flipped)-5] ^= 1
	for _, test := range []struct {
		name, purpose, text string
		by                  *Identity
		want                error
	}{
		{"as it was sealed", "certificate api", sealed, id, nil},
		{"after a restart", "certificate api", sealed, again, nil},
		{"with the white space of a document", "certificate api", sealed + "\n", id, nil},
		{"for another certificate", "certificate app", sealed, id, ErrSealed},
		{"by another cluster", "certificate api", sealed, stranger, ErrSealed},
		{"changed", "certificate api", string(flipped), id, ErrSealed},
		{"cut short", "certificate api", registry.SealedPrefix + "AAAA", id, ErrSealed},
		{"no base64", "certificate api", registry.SealedPrefix + "?", id, ErrSealed},
		{"empty", "certificate api", registry.SealedPrefix, id, ErrSealed},
		{"in clear", "certificate api", "the key", id, ErrInClear},
	} {
		t.Run(test.name, func(t *testing.T) {
			plain, err := test.by.OpenSecret(test.purpose, test.text)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if test.want == nil && plain != "the key" {
				t.Errorf("opened as %q", plain)
			}
			if err != nil && strings.Contains(err.Error(), "the key") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestWhatIsSealedIsOpened(t *testing.T) {
	_, id := create(t, "n1")
	rapid.Check(t, func(t *rapid.T) {
		purpose, plain := rapid.String().Draw(t, "purpose"), rapid.String().Draw(t, "plain")
		if got, err := id.OpenSecret(purpose, id.SealSecret(purpose, plain)); err != nil || got != plain {
			t.Fatalf("%q became %q, %v", plain, got, err)
		}
	})
}

func TestConfigurationsAreSealedAndOpened(t *testing.T) {
	_, id := create(t, "n1")
	c := registry.Config{Certificates: []registry.Certificate{{Name: "a", Key: "key of a"}, {Name: "b", Key: "key of b"}}, Neighbors: []registry.Neighbor{
		{Name: "tor1", Password: "of tor1"}, {Name: "tor2"}, {Name: "tor3", Password: "of tor3"},
	}}
	sealed := id.SealConfig(c)
	if p := sealed.Neighbors[0].Password; !strings.HasPrefix(string(p), registry.SealedPrefix) || sealed.Neighbors[1].Password != "" {
		t.Errorf("the passwords are sealed as %q and %q", string(p), string(sealed.Neighbors[1].Password))
	}
	for i, cert := range sealed.Certificates {
		if !cert.Sealed() || cert.Key == c.Certificates[i].Key {
			t.Errorf("certificate %s is not sealed", cert.Name)
		}
	}
	if again := id.SealConfig(sealed); again.Certificates[0].Key != sealed.Certificates[0].Key {
		t.Error("what was sealed is sealed once more")
	}
	opened, err := id.OpenConfig(sealed)
	if err != nil || opened.Certificates[1].Key != "key of b" || opened.Neighbors[0].Password != "of tor1" || opened.Neighbors[1].Password != "" {
		t.Errorf("opened: %v", err)
	}
	swapped := sealed.Clone()
	swapped.Neighbors[2].Password = sealed.Neighbors[0].Password
	if _, err := id.OpenConfig(swapped); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "neighbor tor3") {
		t.Errorf("the password of another neighbor: %v", err)
	}
	sealed.Certificates[1].Key = sealed.Certificates[0].Key
	if _, err := id.OpenConfig(sealed); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "certificate b") {
		t.Errorf("the key of another certificate: %v", err)
	}
	if _, err := id.OpenConfig(c); !errors.Is(err, ErrInClear) {
		t.Errorf("keys in clear: %v", err)
	}
}

func FuzzOpenSecret(f *testing.F) {
	id, err := Create(f.TempDir()+"/n1", "n1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("certificate api", id.SealSecret("certificate api", "the key"))
	f.Add("certificate app", id.SealSecret("certificate api", "the key"))
	f.Add("", registry.SealedPrefix+"AAAA")
	f.Fuzz(func(t *testing.T, purpose, text string) {
		plain, err := id.OpenSecret(purpose, text)
		if err != nil {
			return
		}
		// Nothing opens that this cluster did not seal. White space may be added,
		// and base64 has more than one form of its last bits.
		if again, err := id.OpenSecret(purpose, id.SealSecret(purpose, plain)); err != nil || again != plain {
			t.Fatalf("opened %q, which does not seal again: %v", plain, err)
		}
	})
}
