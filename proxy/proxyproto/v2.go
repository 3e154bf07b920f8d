package proxyproto

import (
	"encoding/binary"
	"net/netip"
)

const (
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	fixedSize  = 16 // signature, version and command, family and transport, length
)

// The 13th byte: version 2 and the command (section 2.2).
const (
	commandLocal = 0x20
	commandProxy = 0x21
)

// The 14th byte: the family and, in the lower half, the transport.
const (
	unspec       = 0x00
	tcp4         = 0x11
	udp4         = 0x12
	tcp6         = 0x21
	udp6         = 0x22
	unixStream   = 0x31
	unixDatagram = 0x32
)

// addressSize is the length of the addresses of a family; ok is false for one
// that is not defined.
func addressSize(family byte) (size int, ok bool) {
	switch family {
	case unspec:
		return 0, true
	case tcp4, udp4:
		return 4 + 4 + 2 + 2, true
	case tcp6, udp6:
		return 16 + 16 + 2 + 2, true
	case unixStream, unixDatagram:
		return 108 + 108, true
	}
	return 0, false
}

// parse2 reads a version 2 header (section 2.2).
func parse2(b []byte, maxLength int) (Header, int, error) {
	if n := min(len(b), len(signature2)); string(b[:n]) != signature2[:n] {
		return Header{}, 0, ErrSignature
	}
	// What is wrong already is not waited for.
	if len(b) > 12 && b[12] != commandLocal && b[12] != commandProxy {
		return Header{}, 0, ErrVersion
	}
	if len(b) > 13 {
		if _, ok := addressSize(b[13]); !ok {
			return Header{}, 0, ErrFamily
		}
	}
	if len(b) < fixedSize {
		return Header{}, 0, nil
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	if length > maxLength {
		return Header{}, 0, ErrTooLong
	}
	h := Header{Version: 2, Local: b[12] == commandLocal}
	family := b[13]
	size, _ := addressSize(family)
	if !h.Local && length < size {
		return Header{}, 0, ErrTooShort
	}
	n := fixedSize + length
	if len(b) < n {
		return Header{}, 0, nil
	}
	if h.Local {
		return h, n, nil
	}
	h.Datagram = family&0x0f == 2
	h.TLVs = TLVs(b[fixedSize+size : n : n])
	if err := checkTLVs(b[:n], fixedSize+size); err != nil {
		return Header{}, 0, err
	}
	switch a := b[fixedSize:n]; family {
	case tcp4, udp4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), binary.BigEndian.Uint16(a[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:])), binary.BigEndian.Uint16(a[10:]))
	case tcp6, udp6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a)), binary.BigEndian.Uint16(a[32:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[16:])), binary.BigEndian.Uint16(a[34:]))
	}
	return h, n, nil
}

// Extra is what a version 2 header may tell beyond addresses. What is empty is
// left out.
type Extra struct {
	Authority []byte // the host that the client asked for, as by SNI
	UniqueID  []byte // of the connection, at most 128 bytes
	Checksum  bool   // CRC32C over the header
}

// AppendV2 appends a version 2 header. Ends of different families both go as
// IPv6; if either is not valid the header says UNSPEC. A Local header says
// nothing more. The TLVs of h are not passed on: they were addressed to us. The
// error is ErrTooLong or ErrTLV; dst is then returned as it was.
func AppendV2(dst []byte, h Header, e Extra) ([]byte, error) {
	if len(e.UniqueID) > maxUniqueID {
		return dst, ErrTLV
	}
	// 36 of addresses, and three TLVs with 3 bytes before each value.
	if 36+3*tlvHead+len(e.Authority)+len(e.UniqueID)+checksumSize > 65535 {
		return dst, ErrTooLong
	}
	begin := len(dst)
	dst = append(dst, signature2...)
	if h.Local {
		return append(dst, commandLocal, unspec, 0, 0), nil
	}
	dst = append(dst, commandProxy)
	s, d, ok := addresses(h.Source, h.Destination)
	switch {
	case !ok:
		dst = append(dst, unspec, 0, 0)
	case s.Addr().Is4():
		dst = append(dst, familyByte(tcp4, h.Datagram), 0, 0)
		from, to := s.Addr().As4(), d.Addr().As4()
		dst = append(append(dst, from[:]...), to[:]...)
	default:
		dst = append(dst, familyByte(tcp6, h.Datagram), 0, 0)
		from, to := s.Addr().As16(), d.Addr().As16()
		dst = append(append(dst, from[:]...), to[:]...)
	}
	if ok {
		dst = binary.BigEndian.AppendUint16(dst, s.Port())
		dst = binary.BigEndian.AppendUint16(dst, d.Port())
	}
	if len(e.Authority) > 0 {
		dst = appendTLV(dst, Authority, e.Authority)
	}
	if len(e.UniqueID) > 0 {
		dst = appendTLV(dst, UniqueID, e.UniqueID)
	}
	if e.Checksum {
		dst = appendTLV(dst, CRC32C, zeros[:])
	}
	header := dst[begin:]
	binary.BigEndian.PutUint16(header[14:], uint16(len(header)-fixedSize))
	if e.Checksum {
		at := len(header) - checksumSize
		binary.BigEndian.PutUint32(header[at:], checksum(header, at))
	}
	return dst, nil
}

func familyByte(tcp byte, datagram bool) byte {
	if datagram {
		return tcp + 1
	}
	return tcp
}
