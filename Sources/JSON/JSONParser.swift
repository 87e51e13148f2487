import Foundation
import OrderedCollections

/// A recursive-descent parser over the UTF-8 bytes of one document.
///
/// It reads bytes, never `Character`s: a tokenizer file is tens of megabytes, and grapheme breaking
/// alone would take longer than everything else. For the same reason a reader can take the large parts of
/// a document itself, member by member, before a ``JSONValue`` is made of each.
package struct JSONParser {
  private let bytes: UnsafeBufferPointer<UInt8>
  private let options: JSONParsingOptions
  private var position = 0
  private var depth = 0
  /// What is left of the paths in `objectsAsPairs` that lead through here; nil where no more can match.
  private var pairPaths: [ArraySlice<String>]?

  /// Parses one document, which `read` reads as one value.
  ///
  /// - Throws: ``JSONError`` with line and column of the first byte that does not fit.
  package static func parse(
    _ data: Data, options: JSONParsingOptions = .init(),
    _ read: (inout JSONParser) throws(JSONError) -> JSONValue
  ) throws(JSONError) -> JSONValue {
    try data.withUnsafeBytes { parse($0.bindMemory(to: UInt8.self), options: options, read) }.get()
  }

  static func parse(
    _ bytes: UnsafeBufferPointer<UInt8>, options: JSONParsingOptions,
    _ read: (inout JSONParser) throws(JSONError) -> JSONValue = { parser throws(JSONError) in
      try parser.value()
    }
  ) -> Result<JSONValue, JSONError> {
    var parser = JSONParser(bytes: bytes, options: options)
    do throws(JSONError) {
      return .success(try parser.document(read))
    } catch {
      return .failure(error)
    }
  }

  private init(bytes: UnsafeBufferPointer<UInt8>, options: JSONParsingOptions) {
    self.bytes = bytes
    self.options = options
    pairPaths = options.objectsAsPairs.isEmpty ? nil : options.objectsAsPairs.map { $0[...] }
  }

  private mutating func document(
    _ read: (inout JSONParser) throws(JSONError) -> JSONValue
  ) throws(JSONError) -> JSONValue {
    if let bad = UTF8Validation.firstInvalidByte(in: bytes) {
      throw error("the text is not UTF-8 (byte 0x\(String(bytes[bad], radix: 16)))", at: bad)
    }
    // A byte order mark is no JSON, but Windows editors write it.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
    skipWhitespace()
    let value = try read(&self)
    skipWhitespace()
    guard position == bytes.count else {
      throw error("expected the end of the document, found \(found())")
    }
    return value
  }

  // MARK: Values

  /// Reads the value that comes next.
  package mutating func value() throws(JSONError) -> JSONValue {
    guard position < bytes.count else { throw error("expected a value, found the end of the text") }
    switch bytes[position] {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    case UInt8(ascii: "t") where take("true"): return .bool(true)
    case UInt8(ascii: "f") where take("false"): return .bool(false)
    case UInt8(ascii: "n") where take("null"): return .null
    case UInt8(ascii: "N") where take("NaN"):
      return try nonFinite(.nan, name: "NaN")
    case UInt8(ascii: "I") where take("Infinity"):
      return try nonFinite(.infinity, name: "Infinity")
    default: throw error("expected a value, found \(found())")
    }
  }

  /// Whether the value that comes next is an object.
  package var isAtObject: Bool { position < bytes.count && bytes[position] == UInt8(ascii: "{") }

  /// Whether the value that comes next is an array.
  package var isAtArray: Bool { position < bytes.count && bytes[position] == UInt8(ascii: "[") }

  /// Whether the value that comes next is a string.
  package var isAtString: Bool { position < bytes.count && bytes[position] == UInt8(ascii: "\"") }

  /// Reads the object that comes next; `member` reads the value of each key and says what stands for it in the
  /// object.
  package mutating func object(
    _ member: (inout JSONParser, _ key: String) throws(JSONError) -> JSONValue = {
      parser, _ throws(JSONError) in try parser.value()
    }
  ) throws(JSONError) -> JSONValue {
    let outer = pairPaths
    let asPairs = outer?.contains(where: \.isEmpty) ?? false
    var members: OrderedDictionary<String, JSONValue> = [:]
    var pairs: [JSONValue] = []
    var key = ""
    var keyPosition = 0
    try self.members { parser throws(JSONError) in
      keyPosition = parser.position
      key = try parser.string()
    } value: { parser throws(JSONError) in
      if let outer { parser.pairPaths = Self.paths(outer, behind: key) }
      let value = try member(&parser, key)
      if asPairs {
        pairs.append(.array([.string(key), value]))
      } else if members.updateValue(value, forKey: key) != nil {
        try parser.checkSameScalars(key, in: members, at: keyPosition)
      }
    }
    pairPaths = outer
    return asPairs ? .array(pairs) : .object(members)
  }

  /// Reads the object that comes next: of each member, `key` reads the key, then `value` the value.
  @inline(__always)
  package mutating func members(
    key: (inout JSONParser) throws(JSONError) -> Void, value: (inout JSONParser) throws(JSONError) -> Void
  ) throws(JSONError) {
    try enter()
    skipWhitespace()
    if !take(UInt8(ascii: "}")) {
      var isFirst = true
      while true {
        guard isAtString else {
          throw error("expected a key in double quotes\(isFirst ? " or `}`" : ""), found \(found())")
        }
        isFirst = false
        let keyPosition = position
        try key(&self)
        skipWhitespace()
        guard take(UInt8(ascii: ":")) else {
          throw try error("expected `:` after the key \"\(string(at: keyPosition))\", found \(found())")
        }
        skipWhitespace()
        try value(&self)
        skipWhitespace()
        if take(UInt8(ascii: ",")) {
          skipWhitespace()
          continue
        }
        guard take(UInt8(ascii: "}")) else {
          throw try error(
            "expected `,` or `}` after the value of \"\(string(at: keyPosition))\", found \(found())")
        }
        break
      }
    }
    depth -= 1
  }

  private mutating func array() throws(JSONError) -> JSONValue {
    // An element's path has an index in it, which `objectsAsPairs` cannot name.
    let outer = pairPaths
    pairPaths = nil
    var elements: [JSONValue] = []
    try self.elements { parser throws(JSONError) in elements.append(try parser.value()) }
    pairPaths = outer
    return .array(elements)
  }

  /// Reads the array that comes next; `element` reads each element.
  @inline(__always)
  package mutating func elements(
    _ element: (inout JSONParser) throws(JSONError) -> Void
  ) throws(JSONError) {
    try enter()
    skipWhitespace()
    if !take(UInt8(ascii: "]")) {
      while true {
        try element(&self)
        skipWhitespace()
        if take(UInt8(ascii: ",")) {
          skipWhitespace()
          continue
        }
        guard take(UInt8(ascii: "]")) else {
          throw error("expected `,` or `]` in the array, found \(found())")
        }
        break
      }
    }
    depth -= 1
  }

  private mutating func enter() throws(JSONError) {
    depth += 1
    guard depth <= options.maximumDepth else {
      throw error("nested more than \(options.maximumDepth) levels deep")
    }
    position += 1
  }

  /// What is left of `paths` behind a key.
  private static func paths(_ paths: [ArraySlice<String>], behind key: String) -> [ArraySlice<String>]? {
    let rest = paths.compactMap { $0.first == key ? $0.dropFirst() : nil }
    return rest.isEmpty ? nil : rest
  }

  /// A repeated key replaces the earlier value, as in Python; a key that is only canonically
  /// equivalent is a different key that a Swift dictionary cannot hold beside the first.
  private func checkSameScalars(
    _ key: String, in members: OrderedDictionary<String, JSONValue>, at position: Int
  ) throws(JSONError) {
    guard let index = members.index(forKey: key) else { return }
    guard !members.keys[index].utf8.elementsEqual(key.utf8) else { return }
    throw error(
      "the keys \"\(key)\" here and earlier in the object differ only in Unicode normalization; "
        + "read this object with `objectsAsPairs`", at: position)
  }

  // MARK: Numbers

  private mutating func number() throws(JSONError) -> JSONValue {
    let start = position
    let negative = take(UInt8(ascii: "-"))
    if negative, take("Infinity") { return try nonFinite(-.infinity, name: "-Infinity") }
    let digitsStart = position
    var magnitude: UInt64 = 0
    var overflow = false
    while position < bytes.count, case let digit = bytes[position] &- 48, digit < 10 {
      let (product, high) = magnitude.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
      overflow = overflow || high || carry
      magnitude = sum
      position += 1
    }
    guard position > digitsStart else { throw error("expected a digit, found \(found())") }
    if bytes[digitsStart] == UInt8(ascii: "0"), position > digitsStart + 1 {
      throw error("a number does not start with 0", at: digitsStart)
    }
    var isInteger = true
    if take(UInt8(ascii: ".")) {
      isInteger = false
      try digits(after: "the decimal point")
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      isInteger = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try digits(after: "the exponent's `e`")
    }
    if isInteger, !overflow {
      if !negative, let integer = Int(exactly: magnitude) { return .integer(integer) }
      if negative, magnitude <= UInt64(Int.max) { return .integer(-Int(magnitude)) }
      if negative, magnitude == UInt64(Int.max) + 1 { return .integer(.min) }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let double = Double(text) else { throw error("`\(text)` is not a number", at: start) }
    return .number(double)
  }

  private mutating func digits(after place: String) throws(JSONError) {
    let start = position
    while position < bytes.count, bytes[position] &- 48 < 10 { position += 1 }
    guard position > start else { throw error("expected a digit after \(place), found \(found())") }
  }

  private func nonFinite(_ value: Double, name: String) throws(JSONError) -> JSONValue {
    guard options.allowsNonFiniteNumbers else {
      throw error("\(name) is not JSON; numbers are finite", at: position - name.utf8.count)
    }
    return .number(value)
  }

  // MARK: Strings

  private mutating func string() throws(JSONError) -> String {
    let start = position
    if let plain = try plainString() { return String(decoding: plain, as: UTF8.self) }
    var text: [UInt8] = []
    try escapedString(from: start, into: &text)
    return String(decoding: text, as: UTF8.self)
  }

  /// Reads the string that comes next, appending its UTF-8 to `text`.
  package mutating func string(into text: inout [UInt8]) throws(JSONError) {
    let start = position
    if let plain = try plainString() {
      text.append(contentsOf: plain)
    } else {
      try escapedString(from: start, into: &text)
    }
  }

  /// The string at `start`, for errors about what follows it.
  private func string(at start: Int) throws(JSONError) -> String {
    var parser = self
    parser.position = start
    return try parser.string()
  }

  /// Reads a string in which nothing is escaped; nil where something is.
  @inline(__always)
  private mutating func plainString() throws(JSONError) -> UnsafeBufferPointer<UInt8>? {
    let start = position + 1
    var end = start
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") {
        position = end + 1
        return UnsafeBufferPointer(rebasing: bytes[start..<end])
      }
      if byte == UInt8(ascii: "\\") { return nil }
      if byte < 0x20 {
        position = end
        throw controlCharacter(byte)
      }
      end += 1
    }
    position = end
    throw error("the string is not closed", at: start - 1)
  }

  private mutating func escapedString(from start: Int, into text: inout [UInt8]) throws(JSONError) {
    position = start + 1
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return
      case UInt8(ascii: "\\"): try escape(into: &text)
      case 0..<0x20:
        position -= 1
        throw controlCharacter(byte)
      default: text.append(byte)
      }
    }
    throw error("the string is not closed", at: start)
  }

  private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
    guard position < bytes.count else { throw error("the string is not closed") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "u"): text.append(contentsOf: UTF8.encode(try unicodeEscape()) ?? .init())
    default:
      throw error(
        "expected one of \" \\ / b f n r t u after the backslash", at: position - 1)
    }
  }

  private mutating func unicodeEscape() throws(JSONError) -> Unicode.Scalar {
    let start = position - 2
    let first = try hexadecimal()
    if let scalar = Unicode.Scalar(first) { return scalar }
    if first < 0xDC00, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
      bytes[position + 1] == UInt8(ascii: "u")
    {
      let rewind = position
      position += 2
      let second = try hexadecimal()
      if (0xDC00...0xDFFF).contains(second) {
        let code = 0x10000 + (UInt32(first) - 0xD800) << 10 + (UInt32(second) - 0xDC00)
        if let scalar = Unicode.Scalar(code) { return scalar }
      }
      position = rewind
    }
    guard options.replacesLoneSurrogates else {
      throw error("\\u\(String(first, radix: 16)) is half of a surrogate pair", at: start)
    }
    return "\u{FFFD}"
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt16 {
    var code: UInt16 = 0
    for _ in 0..<4 {
      guard position < bytes.count, let digit = hexadecimalDigit(bytes[position]) else {
        throw error("expected four hexadecimal digits after \\u, found \(found())")
      }
      code = code << 4 | UInt16(digit)
      position += 1
    }
    return code
  }

  private func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  // MARK: Bytes

  private mutating func skipWhitespace() {
    while position < bytes.count {
      // Eight spaces at a time: indented files have more of them than of anything else.
      while position + 8 <= bytes.count, word(at: position) == 0x2020_2020_2020_2020 { position += 8 }
      guard position < bytes.count else { return }
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  private func word(at position: Int) -> UInt64 {
    UnsafeRawBufferPointer(bytes).loadUnaligned(fromByteOffset: position, as: UInt64.self)
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func take(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard position + count <= bytes.count else { return false }
    for offset in 0..<count where bytes[position + offset] != word.utf8Start[offset] {
      return false
    }
    position += count
    return true
  }

  // MARK: Errors

  private func found() -> String {
    guard position < bytes.count else { return "the end of the text" }
    let rest = String(decoding: bytes[position..<min(position + 4, bytes.count)], as: UTF8.self)
    guard let scalar = rest.unicodeScalars.first else { return "nothing" }
    return scalar.value < 0x20
      ? "the control character U+\(hexadecimal(scalar.value))" : "`\(scalar)`"
  }

  private func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }

  private func controlCharacter(_ byte: UInt8) -> JSONError {
    error(
      "the control character U+\(hexadecimal(UInt32(byte))) inside a string has to be escaped")
  }

  private func error(_ message: String, at offset: Int? = nil) -> JSONError {
    let offset = min(offset ?? position, bytes.count)
    var line = 1
    var lineStart = 0
    for index in 0..<offset where bytes[index] == 0x0A {
      line += 1
      lineStart = index + 1
    }
    let column = bytes[lineStart..<offset].reduce(1) { $0 + ($1 & 0xC0 == 0x80 ? 0 : 1) }
    return JSONError(
      message, location: .init(line: line, column: column, byteOffset: offset))
  }
}
