package http2

import "encoding/binary"

// assumedStreams is how many streams a server is taken to allow until its
// SETTINGS say so: the protocol sets no limit, and hardly a server has less.
const assumedStreams = 100

// start queues what the connection begins with (RFC 9113 section 3.4).
func (c *conn) start() {
	b := c.buffer()
	if !c.server {
		b = append(b, Preface...)
	}
	start := len(b)
	b = append(b, make([]byte, headerLength)...)
	b = appendSetting(b, settingWindow, uint32(c.config.StreamWindow))
	b = appendSetting(b, settingMaxList, uint32(c.config.Limits.Head))
	if c.server {
		b = appendSetting(b, settingMaxStreams, uint32(c.config.MaxStreams))
		b = appendSetting(b, settingNoPriorities, 1)
	} else {
		b = appendSetting(b, settingPush, 0)
	}
	putFrame(b[start:], len(b)-start-headerLength, frameSettings, 0, 0)
	if more := c.config.ConnWindow - defaultWindow; more > 0 {
		b = appendWindowUpdate(b, 0, more)
		c.recvWindow += more
	}
	c.queue(b)
}

// settingsFrame takes SETTINGS (RFC 9113 section 6.5). Ours are in force at
// once, without their acknowledgement: they only allow more than the
// protocol's own, and streams beyond MaxStreams are refused in a way that the
// client can repeat.
func (c *conn) settingsFrame(f *frame, p []byte) *Error {
	if f.has(flagAck) {
		c.overhead()
		return nil
	}
	if c.settled {
		c.overhead()
	}
	c.settled = true
	window := c.initialWindow
	for ; len(p) > 0; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch setting(binary.BigEndian.Uint16(p)) {
		case settingTableSize:
			c.encoder.resize(int(value))
		case settingPush:
			if value > 1 || value == 1 && !c.server {
				return ErrSetting
			}
		case settingMaxStreams:
			c.peerStreams = int(min(value, maxStreamID))
		case settingWindow:
			if value > maxWindow {
				return ErrSettingWindow
			}
			window = int(value)
		case settingMaxFrame:
			if value < maxFrame || value > 1<<24-1 {
				return ErrSetting
			}
		}
	}
	if err := c.moveWindows(window - c.initialWindow); err != nil {
		return err
	}
	c.initialWindow = window
	c.queue(appendFrame(c.buffer(), 0, frameSettings, flagAck, 0))
	c.unread(headerLength)
	return nil
}

// moveWindows applies a change of the initial window to the open streams (RFC
// 9113 section 6.9.2): once for a frame, however often it changes there.
func (c *conn) moveWindows(delta int) *Error {
	if delta == 0 {
		return nil
	}
	for _, s := range c.streams.open {
		if s.sendWindow+delta > maxWindow {
			return ErrSettingWindow
		}
		s.sendWindow += delta
		c.enqueue(s)
	}
	return nil
}
