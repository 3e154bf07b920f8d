// Package sticky keeps a client on its server by a cookie, as HAProxy's "cookie
// NAME insert indirect nocache". It is pure: time, keys and randomness are
// given to it.
//
// What the proxy does with a [Jar]:
//
//   - On a request: Parse. If the decision's server is there and takes work, it
//     is used, else one is chosen as without a cookie. As soon as a server is
//     chosen, Decision.Stays tells whether the client must be told; nothing of
//     the decision but its times is kept after that. AppendWithout makes
//     the Cookie field that the server gets, which never sees the cookie.
//   - On its response: if the server sets the cookie itself ([Jar.Sets]), that
//     field is left alone and nothing is added when the jar is
//     preserving ([Jar.Preserves]), and is removed when not. Then, if the client
//     must be told, a Set-Cookie field with what Append makes is added, and the
//     field [ProtectName] with [ProtectValue], so that no cache gives one
//     client's cookie to another.
//
// # Values
//
// A plain value is the server's name; what may not stand in a cookie, and the
// percent sign, is percent-encoded. It can be forged, and used on any pool that
// has a server of this name. The others begin with the version of their format:
//
//	"1" first last MAC server       signed: dates of 6 characters each, a MAC of 22
//	"2" nonce ciphertext tag        hidden: all in base64url
//
// Dates are seconds since 1970, in 36 bits. The MAC is HMAC-SHA256, cut to 128
// bits, over all the rest of the value. Hidden is AES-128-GCM over dates and
// name, padded to 16 bytes so that the length of the name does not show. Either
// key is derived from the jar's by HKDF-SHA256 for its format and pool, so that
// a cookie is worthless on another pool, and a key that is also used elsewhere
// is not weakened. Nonces are random: change keys before 2^32 cookies were made
// with one.
//
// Both are read whichever of them is configured, so that a change between them
// ends no session. A plain value is read only where plain is configured.
//
// A cookie that cannot be used is as none, and never an error; [Verdict] says
// why, for counters.
package sticky
