package http2

import "encoding/binary"

// frameType is a type of frame (RFC 9113 section 6).
type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

type frameFlags uint8

const (
	flagAck        frameFlags = 0x1 // SETTINGS, PING
	flagEndStream  frameFlags = 0x1 // DATA, HEADERS
	flagEndHeaders frameFlags = 0x4
	flagPadded     frameFlags = 0x8
	flagPriority   frameFlags = 0x20
)

const (
	headerLength = 9
	// maxFrame is the largest payload that is received or sent: the smallest
	// that peers must take, so that streams alternate finely.
	maxFrame      = 16384
	maxWindow     = 1<<31 - 1
	defaultWindow = 65535
	maxStreamID   = 1<<31 - 1
)

// frame is a frame's header (RFC 9113 section 4.1).
type frame struct {
	length int
	typ    frameType
	flags  frameFlags
	stream uint32
}

func (f *frame) has(flag frameFlags) bool { return f.flags&flag != 0 }

func parseFrame(b []byte) frame {
	_ = b[headerLength-1]
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    frameType(b[3]),
		flags:  frameFlags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

// check refuses lengths and streams that no frame of the type may have, before
// its payload is waited for.
func (f *frame) check() *Error {
	if f.length > maxFrame {
		return ErrFrameTooLong
	}
	length, ofStream := f.length, true
	switch f.typ {
	case frameData, frameHeaders, frameContinuation, framePushPromise:
	case framePriority:
		// The RFC makes it a stream error, but the stream may be idle and then
		// cannot be reset: section 5.4.1 allows to end the connection.
		length = 5
	case frameReset:
		length = 4
	case frameWindowUpdate:
		if f.length != 4 {
			return ErrFrameLength
		}
		return nil
	case frameSettings:
		ofStream = false
		if f.length%6 != 0 || f.has(flagAck) && f.length != 0 {
			return ErrFrameLength
		}
	case framePing:
		ofStream, length = false, 8
	case frameGoAway:
		ofStream, length = false, max(length, 8)
	default:
		return nil // unknown types are ignored (section 5.5)
	}
	if ofStream != (f.stream != 0) {
		return ErrFrameStream
	}
	if f.length != length {
		return ErrFrameLength
	}
	return nil
}

func appendFrame(dst []byte, length int, typ frameType, flags frameFlags, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(typ), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func putFrame(dst []byte, length int, typ frameType, flags frameFlags, stream uint32) {
	appendFrame(dst[:0], length, typ, flags, stream)
}

func appendReset(dst []byte, stream uint32, code Code) []byte {
	dst = appendFrame(dst, 4, frameReset, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, stream uint32, increment int) []byte {
	dst = appendFrame(dst, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(increment))
}

// appendGoAway appends a GOAWAY; reason is for people (RFC 9113 section 6.8).
func appendGoAway(dst []byte, last uint32, code Code, reason string) []byte {
	dst = appendFrame(dst, 8+len(reason), frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, reason...)
}

func appendPing(dst []byte, flags frameFlags, payload []byte) []byte {
	dst = appendFrame(dst, 8, framePing, flags, 0)
	return append(dst, payload...)
}

// setting is one of RFC 9113 section 6.5.2, RFC 9218 section 2.1.
type setting uint16

const (
	settingTableSize    setting = 1
	settingPush         setting = 2
	settingMaxStreams   setting = 3
	settingWindow       setting = 4
	settingMaxFrame     setting = 5
	settingMaxList      setting = 6
	settingNoPriorities setting = 9
)

func appendSetting(dst []byte, id setting, value uint32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(id))
	return binary.BigEndian.AppendUint32(dst, value)
}
