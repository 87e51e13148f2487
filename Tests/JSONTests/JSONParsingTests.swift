import Foundation
import JSON
import OrderedCollections
import Testing

@Suite struct JSONParsingTests {
  @Test("objects keep the order of their members, and the last of equal keys wins")
  func order() throws {
    let value = try JSONValue(parsing: #"{"z": 1, "a": {"y": 2, "b": 3}, "z": 4}"#)
    #expect(value.objectValue.map { Array($0.keys) } == ["z", "a"])
    #expect(value["z"] == 4)
    #expect(value["a"]?.objectValue.map { Array($0.keys) } == ["y", "b"])
  }

  @Test(
    "scalars, numbers and escapes parse to the value they denote",
    arguments: [
      ("null", JSONValue.null), (" true ", true), ("[]", .array([])), ("{ }", .object([:])), ("-0", 0),
      ("12", 12),
      ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
      ("9223372036854775808", .number(9_223_372_036_854_775_808)), ("1.5e2", .number(150)),
      ("-0.0", .number(-0.0)), (#""\u00e9\n\/\"\\""#, "é\n/\"\\"),
      (#""\ud83d\ude00 \uD83D\uDE00""#, "😀 😀"), ("\u{FEFF}[1]", [1]), ("\"中文\"", "中文"),
    ] as [(String, JSONValue)])
  func scalars(text: String, expected: JSONValue) throws {
    #expect(try JSONValue(parsing: text) == expected)
  }

  @Test(
    "an error names line, column and what was expected",
    arguments: [
      ("", "line 1, column 1: expected a value, found the end of the text"),
      ("{\n  \"a\": 1,\n  \"b\" 2}", "line 3, column 7: expected `:` after the key \"b\", found `2`"),
      ("[1 2]", "line 1, column 4: expected `,` or `]` in the array, found `2`"),
      ("[1,]", "line 1, column 4: expected a value, found `]`"),
      ("{\"é\": tru}", "line 1, column 7: expected a value, found `t`"),
      ("{a: 1}", "line 1, column 2: expected a key in double quotes or `}`, found `a`"),
      ("{\"a\": 1,}", "line 1, column 9: expected a key in double quotes, found `}`"),
      ("\"abc", "line 1, column 1: the string is not closed"),
      ("\"a\tb\"", "line 1, column 3: the control character U+0009 inside a string has to be escaped"),
      ("01", "line 1, column 1: a number does not start with 0"),
      ("1.", "line 1, column 3: expected a digit after the decimal point, found the end of the text"),
      ("1e+", "line 1, column 4: expected a digit after the exponent's `e`, found the end of the text"),
      ("-", "line 1, column 2: expected a digit, found the end of the text"),
      ("NaN", "line 1, column 1: NaN is not JSON; numbers are finite"),
      ("1 1", "line 1, column 3: expected the end of the document, found `1`"),
      (#""\ud83d""#, #"line 1, column 2: \ud83d is half of a surrogate pair"#),
      (#""\u12g4""#, #"line 1, column 6: expected four hexadecimal digits after \u, found `g`"#),
      (#""\x""#, #"line 1, column 3: expected one of " \ / b f n r t u after the backslash"#),
    ])
  func errors(text: String, message: String) {
    let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    #expect(error?.description == message)
  }

  @Test("bytes that are not UTF-8 are refused with their place")
  func invalidUTF8() {
    let invalid: [[UInt8]] = [
      [0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
      [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22], [0x22, 0xE4, 0xB8, 0x22], [0x22, 0xE4],
    ]
    for bytes in invalid {
      let error = #expect(throws: JSONError.self) { try JSONValue(parsing: Data(bytes)) }
      #expect(error?.location?.byteOffset == 1)
    }
  }

  @Test("nesting is limited instead of overflowing the stack")
  func depth() throws {
    #expect(throws: JSONError.self) {
      try JSONValue(parsing: String(repeating: "[", count: 1_000_000))
    }
    let nested = String(repeating: "[", count: 512) + String(repeating: "]", count: 512)
    #expect(try JSONValue(parsing: nested).kind == "an array")
    #expect(throws: JSONError.self) {
      try JSONValue(parsing: nested, options: .init(maximumDepth: 511))
    }
  }

  @Test("what Python's json accepts beyond JSON is accepted when asked for")
  func options() throws {
    let options = JSONParsingOptions(allowsNonFiniteNumbers: true, replacesLoneSurrogates: true)
    let value = try JSONValue(parsing: #"[NaN, Infinity, -Infinity, "\ud83dx"]"#, options: options)
    #expect(value[0]?.doubleValue?.isNaN == true)
    #expect(value[1] == .number(.infinity))
    #expect(value[2] == .number(-.infinity))
    #expect(value[3] == "\u{FFFD}x")
  }

  @Test("keys that differ only in normalization are an error, or both kept as pairs")
  func canonicallyEquivalentKeys() throws {
    let text = "{\"model\": {\"vocab\": {\"\u{E9}\": 1, \"e\u{301}\": 2}, \"n\": 1}}"
    #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    let value = try JSONValue(
      parsing: text, options: .init(objectsAsPairs: [["model", "vocab"]]))
    let pairs = try #require(value["model"]?["vocab"]?.arrayValue)
    #expect(pairs.map { Array(($0[0]?.stringValue ?? "").utf8) } == [[0xC3, 0xA9], [0x65, 0xCC, 0x81]])
    #expect(pairs.map { $0[1] } == [1, 2])
    #expect(value["model"]?["n"] == 1)
  }

  @Test("every truncation and byte change of a document parses or throws, and never traps")
  func mutations() throws {
    let text = #"{"a": [1, -2.5e-3, "x\u00e9\ud83d\ude00", true, null], "é": {"b": {}}}"#
    let bytes = Array(text.utf8)
    for end in bytes.indices {
      #expect(throws: JSONError.self) { try JSONValue(parsing: Data(bytes[..<end])) }
    }
    var outcomes = (parsed: 0, refused: 0)
    for index in bytes.indices {
      for byte in UInt8.min...UInt8.max {
        var changed = bytes
        changed[index] = byte
        do {
          _ = try JSONValue(parsing: Data(changed))
          outcomes.parsed += 1
        } catch {
          outcomes.refused += 1
        }
      }
    }
    #expect(outcomes.parsed > 100 && outcomes.refused > 100)
  }

  @Test("ten megabytes parse in well under a second")
  func speed() throws {
    var text = "{\"vocab\": {"
    for index in 0..<310_000 { text += "\"token number \(index) Ġ\": \(index), " }
    text += "\"end\": 0}}"
    let data = Data(text.utf8)
    #expect(data.count > 10_000_000)
    let clock = ContinuousClock()
    let start = clock.now
    let value = try JSONValue(parsing: data)
    let seconds = (clock.now - start) / .seconds(1)
    print("JSON: \(data.count / 1_000_000) MB in \(seconds) s")
    #expect(value["vocab"]?["token number 309999 Ġ"] == 309_999)
    // Generous, because the machines that run tests are shared.
    #expect(seconds < 1.5)
  }
}
