// Package route finds the rule that a request falls under. It is pure, and
// neither locks nor allocates on a match.
//
// # Order
//
// Of all the rules that match, the most specific one wins, wherever it is
// written. In this order:
//
//  1. host: the exact name; then the wildcard of most labels; then none
//  2. path: exact; then the longest prefix; then regexes, in the order in
//     which each was first written under that host; then none
//  3. the number of further conditions, more first: methods count as one,
//     sources as one, and each header, cookie and query parameter as one
//  4. the longer source prefix around the client; no sources last
//  5. the order of writing
//
// A rule with several hosts stands at each host's place.
//
// # Falling through
//
// A rule whose host and path fit but whose conditions do not is passed over:
// first for the other rules of that host and path, then for the shorter
// prefixes, the regexes and the rules without a path of the same host, and
// only then for the next less specific host, where it all begins again. Hosts
// come before everything: a rule without a path under the exact name wins over
// an exact path under a wildcard. An example, with its order on the left:
//
//	4  {Hosts: *.example.com, Path: /v1, PathKind: exact}
//	2  {Hosts: api.example.com, Path: /v1}
//	1  {Hosts: api.example.com, Path: /v1, Headers: x-canary}
//	3  {Hosts: api.example.com, Path: /, Methods: GET}
//	5  {}
//
// POST api.example.com/v1/x without x-canary falls under 2; POST
// api.example.com/v2 is refused by 3's method, leaves api.example.com, fits
// no path of *.example.com, and falls under 5.
//
// Note that a prefix of "/" takes every path before any regex is asked. A
// host's default beside regexes is a rule without a path; Compile says so.
//
// # Paths
//
// Servers disagree on what a path means, and a client can use that: were
// /public/..%2Fadmin taken as it stands, it would pass as /public here, and be
// served as /admin there. So a path is matched in two readings, while the
// request line itself passes unchanged:
//
//   - the strict one (RFC 3986 section 6.2.2): percent-encoded octets are
//     decoded, whatever the case of their digits, and dot segments are then
//     removed, so that %61 is a and %2e%2e is "..". Only %2F and %25 stay
//     encoded, in this form, so that data cannot turn into syntax. Empty
//     segments stay.
//   - the lax one, of servers that do more: %2F, %5C and the backslash are
//     slashes, what follows a semicolon in a segment is a parameter and no
//     part of the path (as in Java's servlets), and several slashes are one,
//     before dot segments are removed.
//
// A path that reads the same both ways, as nearly all do, is matched once.
// Else both readings must fall under the same rule, or the path is refused as
// [AmbiguousPath]: /a//b and /projects/x%2Fy pass where no rule tells the
// readings apart. A malformed percent-encoding, %00 and an encoded slash or
// backslash within a parameter have no reading at all: [BadPath]. So has a
// path that needs normalising and is longer than 8 KiB: [LongPath].
//
// Refusals hold for hosts that look at paths only: until the first host of the
// way down that has a rule with a path, conditions are tried as ever.
//
// What no router can know is left: servers that decode twice, ignore case, or
// read overlong UTF-8 as ASCII.
//
// Rules' paths are given in the strict reading or encoded; both "/a b" and
// "/a%20b" will do. Regexes see the readings: a space, not %20.
//
// # Cost
//
// A host is found by one hash look-up; if it is unknown, wildcards by one for
// each of its labels, from the right, as far as there are any. A path is one
// look-up for each of its segments, as far as the rules go. So the number of
// hosts and paths does not matter. Rules of the same host and path are tried
// one after another, and so are the regexes of one host, by their nature.
package route
