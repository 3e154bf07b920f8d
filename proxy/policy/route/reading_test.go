package route

import "testing"

func TestAppendReading(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/x":         "/v1/x",
		"/%76%31/x":     "/v1/x",
		"/a/../v1/x":    "/v1/x",
		"/v1/a%20b":     "/v1/a%20b",
		"/v1/%c3%a9%3F": "/v1/%C3%A9%3F",
		"/v1/a%2fb%25":  "/v1/a%2Fb%25",
		"/v1/%zz":       "/v1/%zz",
	} {
		if got := string(AppendReading(nil, []byte(path))); got != want {
			t.Errorf("%s reads %s, want %s", path, got, want)
		}
	}
}
