/// Splits a template into tokens, with Jinja's rules for white space around tags.
///
/// The environment is the one of chat templates: `trim_blocks` (the newline after a statement goes),
/// `lstrip_blocks` (the indentation before a statement goes), and `-` or `+` beside a delimiter to
/// strip more or nothing.
struct Lexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var tokens: [Token] = []
  /// Whether the next text begins a line, so that its indentation may be stripped.
  private var startsLine = true

  static func tokenize(_ source: String) throws -> [Token] {
    var lexer = Lexer(source)
    try lexer.text()
    lexer.tokens.append(Token(kind: .end, line: lexer.line))
    return lexer.tokens
  }

  private init(_ source: String) {
    // Jinja reads every kind of line end as "\n" and drops one at the very end.
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(source.utf8.count)
    var afterReturn = false
    for scalar in source.unicodeScalars {
      if scalar == "\r" {
        scalars.append("\n")
      } else if scalar != "\n" || !afterReturn {
        scalars.append(scalar)
      }
      afterReturn = scalar == "\r"
    }
    if scalars.last == "\n" { scalars.removeLast() }
    self.source = scalars
  }

  // MARK: Text between tags

  private mutating func text() throws {
    while position < source.count {
      let start = position
      while position < source.count, !isTagBegin(position) { position += 1 }
      let end = position
      guard end < source.count else {
        emit(source[start..<end], at: line)
        return
      }
      let opener = source[end + 1]
      if opener == "%", let raw = rawBegin(at: end) {
        emitStripped(start..<end, sign: raw.sign, isVariable: false)
        advance(to: raw.end)
        startsLine = source[raw.end - 1] == "\n"
        try rawBody()
        continue
      }
      let sign =
        end + 2 < source.count && (source[end + 2] == "-" || source[end + 2] == "+") ? source[end + 2] : nil
      emitStripped(start..<end, sign: sign, isVariable: opener == "{")
      advance(to: end + 2 + (sign == nil ? 0 : 1))
      startsLine = false
      switch opener {
      case "#": try comment()
      case "{":
        tokens.append(Token(kind: .variableBegin, line: line))
        try tag(isBlock: false)
      default:
        tokens.append(Token(kind: .blockBegin, line: line))
        try tag(isBlock: true)
      }
    }
  }

  private func isTagBegin(_ index: Int) -> Bool {
    guard source[index] == "{", index + 1 < source.count else { return false }
    return source[index + 1] == "%" || source[index + 1] == "{" || source[index + 1] == "#"
  }

  /// Emits the text before a tag, shortened as the tag's sign and `lstrip_blocks` ask.
  private mutating func emitStripped(_ range: Range<Int>, sign: Unicode.Scalar?, isVariable: Bool) {
    var end = range.upperBound
    if sign == "-" {
      while end > range.lowerBound, source[end - 1].isPythonSpace { end -= 1 }
    } else if sign != "+", !isVariable {
      var lineStart = end
      while lineStart > range.lowerBound, source[lineStart - 1] != "\n" { lineStart -= 1 }
      let beginsLine = lineStart > range.lowerBound || startsLine
      if beginsLine, source[lineStart..<end].allSatisfy(\.isPythonSpace) { end = lineStart }
    }
    emit(source[range.lowerBound..<end], at: line)
    line += source[range].count { $0 == "\n" }
  }

  private mutating func emit(_ text: ArraySlice<Unicode.Scalar>, at line: Int) {
    if !text.isEmpty { tokens.append(Token(kind: .data(String(text)), line: line)) }
  }

  // MARK: Comments and raw text

  private mutating func comment() throws {
    let begin = line
    var end = position
    while true {
      guard end + 1 < source.count else {
        throw TemplateError(.syntax, "Missing end of comment tag", line: begin)
      }
      if source[end] == "#", source[end + 1] == "}" { break }
      end += 1
    }
    let sign = end > position ? source[end - 1] : nil
    finish(at: end + 2, sign: sign, trims: true)
  }

  /// `{% raw %}` at `index`: the sign before it and where it ends.
  private func rawBegin(at index: Int) -> (sign: Unicode.Scalar?, end: Int)? {
    var cursor = index + 2
    var sign: Unicode.Scalar?
    if cursor < source.count, source[cursor] == "-" || source[cursor] == "+" {
      sign = source[cursor]
      cursor += 1
    }
    cursor = skipSpace(cursor)
    guard matches("raw", at: cursor) else { return nil }
    cursor = skipSpace(cursor + 3)
    if matches("%}", at: cursor) { return (sign, cursor + 2) }
    return matches("-%}", at: cursor) ? (sign, skipSpace(cursor + 3)) : nil
  }

  private mutating func rawBody() throws {
    let start = position
    var index = start
    while index + 1 < source.count {
      guard source[index] == "{", source[index + 1] == "%" else {
        index += 1
        continue
      }
      var cursor = index + 2
      var sign: Unicode.Scalar?
      if cursor < source.count, source[cursor] == "-" || source[cursor] == "+" {
        sign = source[cursor]
        cursor += 1
      }
      cursor = skipSpace(cursor)
      if matches("endraw", at: cursor) {
        cursor = skipSpace(cursor + 6)
        let endSign = cursor < source.count ? source[cursor] : nil
        if endSign == "-" || endSign == "+" { cursor += 1 }
        if matches("%}", at: cursor) {
          emitStripped(start..<index, sign: sign, isVariable: false)
          position = index
          finish(at: cursor + 2, sign: endSign, trims: true)
          return
        }
      }
      index += 1
    }
    throw TemplateError(.syntax, "Missing end of raw directive", line: line)
  }

  // MARK: Tags

  /// The tokens up to the tag's end, which only counts outside of brackets.
  private mutating func tag(isBlock: Bool) throws {
    let closing: StaticString = isBlock ? "%}" : "}}"
    var brackets: [(close: Unicode.Scalar, line: Int)] = []
    while true {
      guard position < source.count else { return }
      if brackets.isEmpty {
        let sign = source[position]
        let signed = (sign == "-" || (isBlock && sign == "+")) && matches(closing, at: position + 1)
        if signed || matches(closing, at: position) {
          tokens.append(Token(kind: isBlock ? .blockEnd : .variableEnd, line: line))
          finish(at: position + (signed ? 3 : 2), sign: signed ? sign : nil, trims: isBlock)
          return
        }
      }
      let scalar = source[position]
      if scalar.isPythonSpace {
        advance(to: position + 1)
      } else if scalar.isPythonDigit {
        try number()
      } else if scalar.isPythonWord {
        try name()
      } else if scalar == "'" || scalar == "\"" {
        try string(quote: scalar)
      } else {
        try symbol(&brackets)
      }
    }
  }

  /// Moves past a tag's end and the white space that it takes with it.
  private mutating func finish(at end: Int, sign: Unicode.Scalar?, trims: Bool) {
    var end = end
    if sign == "-" {
      end = skipSpace(end)
    } else if sign != "+", trims, end < source.count, source[end] == "\n" {
      end += 1
    }
    advance(to: end)
    startsLine = source[end - 1] == "\n"
  }

  private mutating func symbol(_ brackets: inout [(close: Unicode.Scalar, line: Int)]) throws {
    let two = ["**", "//", "==", "!=", ">=", "<="].first { matches($0, at: position) }
    if let two {
      tokens.append(Token(kind: .symbol(two), line: line))
      position += 2
      return
    }
    let scalar = source[position]
    switch scalar {
    case "{": brackets.append(("}", line))
    case "(": brackets.append((")", line))
    case "[": brackets.append(("]", line))
    case "}", ")", "]":
      guard let expected = brackets.popLast() else {
        throw TemplateError(.syntax, "unexpected '\(scalar)'", line: line)
      }
      guard expected.close == scalar else {
        throw TemplateError(
          .syntax, "unexpected '\(scalar)', expected '\(expected.close)'", line: line)
      }
    case "+", "-", "/", "*", "%", "~", ">", "<", "=", ".", ":", "|", ",", ";": break
    default: throw TemplateError(.syntax, "unexpected char '\(scalar)'", line: line)
    }
    tokens.append(Token(kind: .symbol(String(scalar)), line: line))
    position += 1
  }

  private mutating func name() throws {
    let start = position
    while position < source.count, source[position].isPythonWord { position += 1 }
    let name = String(source[start..<position])
    guard source[start] == "_" || source[start].properties.isXIDStart,
      source[start..<position].allSatisfy({ $0.properties.isXIDContinue })
    else { throw TemplateError(.syntax, "Invalid character in identifier", line: line) }
    tokens.append(Token(kind: .name(name), line: line))
  }

  // MARK: Literals

  private mutating func number() throws {
    if source[position] == "0", position + 1 < source.count {
      let radix: Int? =
        switch source[position + 1] {
        case "b", "B": 2
        case "o", "O": 8
        case "x", "X": 16
        default: nil
        }
      if let radix {
        let start = position + 2
        var end = start
        while end < source.count, source[end] == "_" || source[end].digit(radix: radix) != nil { end += 1 }
        let digits = source[start..<end].filter { $0 != "_" }
        if !digits.isEmpty {
          guard let value = Int(String(digits), radix: radix) else { throw tooLarge() }
          tokens.append(Token(kind: .integer(value), line: line))
          position = end
          return
        }
      }
    }
    let start = position
    var end = skipDigits(start)
    var isFloat = false
    // After a dot a number is an index (`a.0.1`), never a fraction.
    let afterDot = start > 0 && source[start - 1] == "."
    if !afterDot {
      if end + 1 < source.count, source[end] == ".", source[end + 1].isPythonDigit {
        isFloat = true
        end = skipDigits(end + 1)
      }
      if end < source.count, source[end] == "e" || source[end] == "E" {
        var exponent = end + 1
        if exponent < source.count, source[exponent] == "+" || source[exponent] == "-" { exponent += 1 }
        if exponent < source.count, source[exponent].isPythonDigit {
          isFloat = true
          end = skipDigits(exponent)
        }
      }
    }
    let text = String(source[start..<end].filter { $0 != "_" })
    position = end
    if isFloat {
      guard let value = Double(text) else { throw tooLarge() }
      tokens.append(Token(kind: .float(value), line: line))
    } else {
      guard text == "0" || text.utf8.first != 0x30 || text.utf8.allSatisfy({ $0 == 0x30 }) else {
        throw TemplateError(.syntax, "a number does not start with 0", line: line)
      }
      guard let value = Int(text) else { throw tooLarge() }
      tokens.append(Token(kind: .integer(value), line: line))
    }
  }

  private func tooLarge() -> TemplateError {
    TemplateError(.syntax, "a number that does not fit 64 bits", line: line)
  }

  private func skipDigits(_ start: Int) -> Int {
    var end = start
    while end < source.count,
      source[end].isPythonDigit
        || (source[end] == "_" && end + 1 < source.count && source[end + 1].isPythonDigit)
    {
      end += 1
    }
    return end
  }

  private mutating func string(quote: Unicode.Scalar) throws {
    let begin = line
    var index = position + 1
    var text = String.UnicodeScalarView()
    while true {
      guard index < source.count else {
        throw TemplateError(.syntax, "the string is not closed", line: begin)
      }
      let scalar = source[index]
      index += 1
      if scalar == quote { break }
      guard scalar == "\\" else {
        text.append(scalar)
        continue
      }
      guard index < source.count else { continue }
      let escaped = source[index]
      index += 1
      switch escaped {
      case "\n": break
      case "\\", "'", "\"": text.append(escaped)
      case "a": text.append("\u{07}")
      case "b": text.append("\u{08}")
      case "f": text.append("\u{0C}")
      case "n": text.append("\n")
      case "r": text.append("\r")
      case "t": text.append("\t")
      case "v": text.append("\u{0B}")
      case "0"..."7":
        var code = escaped.value - 48
        var count = 1
        while count < 3, index < source.count, ("0"..."7").contains(source[index]) {
          code = code * 8 + source[index].value - 48
          index += 1
          count += 1
        }
        text.append(Unicode.Scalar(code) ?? "\u{FFFD}")
      case "x": text.append(try escape(digits: 2, at: &index))
      case "u": text.append(try escape(digits: 4, at: &index))
      case "U": text.append(try escape(digits: 8, at: &index))
      case "N":
        throw TemplateError(.syntax, "\\N{…} is not supported; write the character itself", line: begin)
      default:
        text.append("\\")
        text.append(escaped)
      }
    }
    tokens.append(Token(kind: .string(String(text)), line: begin))
    advance(to: index)
  }

  private func escape(digits: Int, at index: inout Int) throws -> Unicode.Scalar {
    var code: UInt32 = 0
    for _ in 0..<digits {
      guard index < source.count, let digit = source[index].digit(radix: 16) else {
        throw TemplateError(.syntax, "an escape needs \(digits) hexadecimal digits", line: line)
      }
      code = code << 4 | UInt32(digit)
      index += 1
    }
    guard let scalar = Unicode.Scalar(code) else {
      throw TemplateError(.syntax, "an escape that is no character", line: line)
    }
    return scalar
  }

  // MARK: Positions

  private mutating func advance(to end: Int) {
    while position < end {
      if source[position] == "\n" { line += 1 }
      position += 1
    }
  }

  private func skipSpace(_ start: Int) -> Int {
    var end = start
    while end < source.count, source[end].isPythonSpace { end += 1 }
    return end
  }

  private func matches(_ text: StaticString, at index: Int) -> Bool {
    matches(text.description, at: index)
  }

  private func matches(_ text: String, at index: Int) -> Bool {
    var cursor = index
    for scalar in text.unicodeScalars {
      guard cursor < source.count, source[cursor] == scalar else { return false }
      cursor += 1
    }
    return true
  }
}
