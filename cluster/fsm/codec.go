package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// commandFormat is the first byte of each encoded command and result. A change
// that an older version must not read as this format takes the next number.
const commandFormat = 1

// MaxCommand is the largest encoded command, in bytes. A document of
// registry.MaxDocument takes about as many bytes here; its marks are bounded,
// so that defaults and escapes add 11 MiB at most. An entry of the log goes to
// each node in one piece, within the store's RPCTimeout.
const MaxCommand = 32 << 20

// ErrTooLarge is for a command of more than MaxCommand bytes.
var ErrTooLarge = errors.New("the command is too large for the log")

// ErrCorrupt is for bytes that no version wrote: cut short, or changed since.
var ErrCorrupt = errors.New("corrupt data")

// EncodeCommand makes the log entry of a command: a format byte, then JSON.
func EncodeCommand(c Command) ([]byte, error) {
	if c.count() != 1 {
		return nil, fmt.Errorf("encode command with %d kinds set: %w", c.count(), ErrUnknownCommand)
	}
	data, err := encode("command", c)
	if err == nil && len(data) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, len(data), MaxCommand)
	}
	return data, err
}

// DecodeCommand reads a log entry. A format, a kind or a field that this
// version does not know is ErrUnknownCommand: the command must not be carried
// out in part. Bytes that are no command at all are ErrCorrupt.
func DecodeCommand(data []byte) (Command, error) {
	var c Command
	if err := decode("command", data, &c); err != nil {
		return Command{}, err
	}
	if c.count() != 1 {
		return Command{}, fmt.Errorf("decode command with %d kinds set: %w", c.count(), ErrUnknownCommand)
	}
	return c, nil
}

// EncodeResult writes a result, for the node that forwarded the command.
func EncodeResult(r Result) ([]byte, error) { return encode("result", r) }

// DecodeResult reads what EncodeResult wrote. The errors are those of
// DecodeCommand.
func DecodeResult(data []byte) (Result, error) {
	var r Result
	if err := decode("result", data, &r); err != nil {
		return Result{}, err
	}
	return r, nil
}

func encode(what string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return append([]byte{commandFormat}, data...), nil
}

func decode(what string, data []byte, to any) error {
	if len(data) == 0 {
		return fmt.Errorf("decode %s of 0 bytes: %w", what, ErrCorrupt)
	}
	if data[0] != commandFormat {
		return fmt.Errorf("decode %s of format %d, this version knows %d: %w", what, data[0], commandFormat, ErrUnknownCommand)
	}
	return decodeJSON(what, data[1:], to)
}

// decodeJSON reads exactly one JSON value of known fields.
func decodeJSON(what string, data []byte, to any) error {
	if !json.Valid(data) {
		return fmt.Errorf("decode %s: not JSON: %w", what, ErrCorrupt)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("decode %s: %w: %w", what, ErrUnknownCommand, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("decode %s: more than one value: %w", what, ErrCorrupt)
	}
	return nil
}
