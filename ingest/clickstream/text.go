package clickstream

import (
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// alias returns b as a string without copying it. The string is only good as long as b is left alone: until the decoder is used again.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unescapeRune appends the character of the \uXXXX that in starts with, or of the surrogate pair, and returns how many bytes it took.
func unescapeRune(dst, in []byte) ([]byte, int) {
	r, n := hex4(in[2:6]), 6
	if utf16.IsSurrogate(r) {
		low := rune(utf8.RuneError)
		if len(in) >= 12 && in[6] == '\\' && in[7] == 'u' {
			low = hex4(in[8:12])
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			n = 12
		}
	}
	return utf8.AppendRune(dst, r), n
}

func hex4(in []byte) (r rune) {
	for _, c := range in {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendQuoted appends text, which is UTF-8, as a JSON string.
func appendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, text[from:]...)
	return append(dst, '"')
}

// appendFlat appends valid JSON with its line breaks, which all stand outside strings, as spaces.
func appendFlat(dst, json []byte, multiline bool) []byte {
	from := len(dst)
	dst = append(dst, json...)
	if multiline {
		for i, c := range dst[from:] {
			if c == '\n' || c == '\r' {
				dst[from+i] = ' '
			}
		}
	}
	return dst
}
