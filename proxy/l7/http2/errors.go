package http2

// Code is an error code (RFC 9113 section 7).
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

var codeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the RFC's name of the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown code"
}

// Error is what a peer did wrong.
type Error struct {
	Code Code
	// Status, if not 0, is what a request is answered with, instead of a
	// reset.
	Status int
	Reason string // constant, safe to log and to show
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Reason }

// What ends a connection. Compare by identity.
var (
	ErrPreface       = &Error{Code: ProtocolError, Reason: "the connection does not begin with the preface"}
	ErrFirstFrame    = &Error{Code: ProtocolError, Reason: "the first frame is not SETTINGS"}
	ErrFrameTooLong  = &Error{Code: FrameSizeError, Reason: "frame is longer than 16,384 bytes"}
	ErrFrameLength   = &Error{Code: FrameSizeError, Reason: "length is not possible with this type of frame"}
	ErrFrameStream   = &Error{Code: ProtocolError, Reason: "frame of the connection on a stream, or the reverse"}
	ErrPadding       = &Error{Code: ProtocolError, Reason: "padding is longer than its frame"}
	ErrStreamID      = &Error{Code: ProtocolError, Reason: "stream id that the peer may not open"}
	ErrIdle          = &Error{Code: ProtocolError, Reason: "frame on a stream that was not opened"}
	ErrClosed        = &Error{Code: StreamClosed, Reason: "frame on a stream that the peer has ended"}
	ErrContinuation  = &Error{Code: ProtocolError, Reason: "header block is interrupted, or continued where none is open"}
	ErrBlockTooLarge = &Error{Code: EnhanceYourCalm, Reason: "header block is far too large, or in too many frames"}
	ErrCompression   = &Error{Code: CompressionError, Reason: "header block cannot be decoded"}
	ErrSetting       = &Error{Code: ProtocolError, Reason: "setting is out of range"}
	ErrSettingWindow = &Error{Code: FlowControlError, Reason: "initial window is out of range, or raises a stream's beyond it"}
	ErrPush          = &Error{Code: ProtocolError, Reason: "push, which was not allowed"}
	ErrConnWindow    = &Error{Code: FlowControlError, Reason: "connection's window is exceeded or overflows"}
	ErrNoIncrement   = &Error{Code: ProtocolError, Reason: "window update by 0"}
	ErrDependency    = &Error{Code: ProtocolError, Reason: "stream depends on itself"}
	ErrResets        = &Error{Code: EnhanceYourCalm, Reason: "too many streams were reset before they were answered"}
	ErrProvoked      = &Error{Code: EnhanceYourCalm, Reason: "too many streams had to be refused or reset"}
	ErrOverhead      = &Error{Code: EnhanceYourCalm, Reason: "too many frames that lead nowhere"}
	ErrUnread        = &Error{Code: EnhanceYourCalm, Reason: "peer asks for answers and does not read them"}
)

// What ends a stream, or refuses it. Compare by identity.
var (
	ErrTooLarge        = &Error{Code: EnhanceYourCalm, Status: 431, Reason: "head is too large"}
	ErrTooMany         = &Error{Code: RefusedStream, Reason: "too many streams at a time"}
	ErrBacklog         = &Error{Code: RefusedStream, Reason: "peer does not read the answers that it has"}
	ErrName            = &Error{Code: ProtocolError, Reason: "field name is not a token in lower case"}
	ErrValue           = &Error{Code: ProtocolError, Reason: "field value holds a control character, or begins or ends in white space"}
	ErrConnectionField = &Error{Code: ProtocolError, Reason: "field of an HTTP/1.1 connection"}
	ErrTE              = &Error{Code: ProtocolError, Reason: "TE other than trailers"}
	ErrPseudo          = &Error{Code: ProtocolError, Reason: "pseudo-header field is unknown, missing, repeated or out of place"}
	ErrMethod          = &Error{Code: ProtocolError, Reason: "malformed method"}
	ErrNotOffered      = &Error{Code: ProtocolError, Status: 501, Reason: "method is not offered"}
	ErrScheme          = &Error{Code: ProtocolError, Reason: "scheme is neither http nor https"}
	ErrPath            = &Error{Code: ProtocolError, Reason: "malformed :path"}
	ErrAuthority       = &Error{Code: ProtocolError, Reason: "authority is missing, malformed, or disagrees with Host"}
	ErrExpect          = &Error{Code: ProtocolError, Status: 417, Reason: "expectation other than 100-continue"}
	ErrStatus          = &Error{Code: ProtocolError, Reason: "malformed or impossible :status"}
	ErrLength          = &Error{Code: ProtocolError, Reason: "malformed or repeated Content-Length"}
	ErrBodyLength      = &Error{Code: ProtocolError, Reason: "body is not as long as Content-Length says"}
	ErrTrailers        = &Error{Code: ProtocolError, Reason: "trailers that are not the end"}
	ErrNoHead          = &Error{Code: ProtocolError, Reason: "data before the head"}
	ErrHalfClosed      = &Error{Code: StreamClosed, Reason: "frame after the end of its stream"}
	ErrStreamWindow    = &Error{Code: FlowControlError, Reason: "stream's window is exceeded or overflows"}
	ErrStreamIncrement = &Error{Code: ProtocolError, Reason: "window update by 0 on a stream"}
)
