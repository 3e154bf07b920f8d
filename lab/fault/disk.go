package fault

import "strings"

// FullDisk is the script that leaves no room on the disk of a directory.
func FullDisk(dir string) Script {
	file := quote(strings.TrimSuffix(dir, "/") + "/pharos-drill-fills-this-disk")
	return Script{
		// Space that is given back while it runs is taken, too.
		Break: "dd if=/dev/zero bs=1M of=" + file + " 2>/dev/null || :\n" +
			"dd if=/dev/zero bs=4k oflag=append conv=notrunc of=" + file + " 2>/dev/null || :\n[ -s " + file + " ]",
		Mend: "rm -f " + file,
	}
}

// quote makes one word of a text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
