package node

import "testing"

func TestDrainingIsKeptOnDisk(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []bool{false, true, true, false, false} {
		if err := saveDraining(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := loadDraining(dir)
		if err != nil || got != want {
			t.Fatalf("kept %v, read %v, %v", want, got, err)
		}
	}
	if err := saveDraining(dir+"/missing", true); err == nil {
		t.Error("a directory that does not exist was written to")
	}
}
