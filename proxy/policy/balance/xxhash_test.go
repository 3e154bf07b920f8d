package balance

import "testing"

// The values are those of the reference implementation.
func TestHash64IsXXH64(t *testing.T) {
	tests := []struct {
		length     int
		seed, want uint64
	}{
		{0, 0x0, 0xef46db3751d8e999},
		{0, seed, 0x5565611ac99d7438},
		{1, 0x0, 0x8a4127811b21e730},
		{3, seed, 0xf1c042f415e5a510},
		{4, 0x0, 0x22eda2cf6af4c124},
		{7, seed, 0x4ef0ddbd32f9dd5a},
		{8, 0x0, 0xc6f1803a5e0b3222},
		{12, seed, 0xdc1c7f4b87ca1003},
		{31, 0x0, 0x6ab1c40e29f50073},
		{32, seed, 0x337f189ead750b5},
		{33, 0x0, 0xdc50cdc37bb9c183},
		{63, seed, 0xd0f6636ca23c8220},
		{64, 0x0, 0x90083da9cdb9d795},
		{100, seed, 0x99eef82755868a5c},
	}
	for _, tt := range tests {
		b := make([]byte, tt.length)
		for i := range b {
			b[i] = byte(i*7 + 1)
		}
		if got := hash64(tt.seed, b); got != tt.want {
			t.Errorf("hash64(%#x, %d bytes) = %#x, want %#x", tt.seed, tt.length, got, tt.want)
		}
	}
}
