import OrderedCollections

/// The methods of Python's strings, lists, tuples and dictionaries, and of Jinja's own objects.
extension Interpreter {
  private static let stringMethods: Set<String> = [
    "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format", "index",
    "isalnum",
    "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace",
    "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith",
    "strip", "swapcase", "title", "upper", "zfill",
  ]

  func hasMethod(_ name: String, _ value: Value) -> Bool {
    switch value {
    case .string: Self.stringMethods.contains(name)
    case .list: ["count", "index", "copy"].contains(name)
    case .tuple: ["count", "index"].contains(name)
    case .dictionary: ["get", "items", "keys", "values", "copy"].contains(name)
    case .float: name == "is_integer"
    case .integer: ["is_integer", "bit_length"].contains(name)
    case .loop: ["cycle", "changed"].contains(name)
    case .cycler: ["next", "reset"].contains(name)
    default: false
    }
  }

  /// The methods that would change a list or a dictionary, which the sandbox refuses.
  func isMutating(_ name: String, _ value: Value) -> Bool {
    switch value {
    case .list: ["append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"].contains(name)
    case .dictionary: ["clear", "pop", "popitem", "setdefault", "update"].contains(name)
    default: false
    }
  }

  func callMethod(_ name: String, of receiver: Value, _ arguments: Arguments) throws -> Value {
    switch receiver {
    case .string(let text): return try callMethod(name, of: text, arguments)
    case .list(let sequence), .tuple(let sequence):
      if name == "copy" { return receiver }
      let element = try arguments.bind(name, ["value"], required: 1)[0] ?? .none
      if name == "count" { return .integer(try sequence.items.count { try areEqual($0, element) }) }
      guard let index = try sequence.items.firstIndex(where: { try areEqual($0, element) }) else {
        throw TemplateError.runtime("\(try representation(element)) is not in list")
      }
      return .integer(index)
    case .dictionary(let mapping):
      switch name {
      case "items": return .view(.init(kind: .items, mapping: mapping))
      case "keys": return .view(.init(kind: .keys, mapping: mapping))
      case "values": return .view(.init(kind: .values, mapping: mapping))
      case "copy": return receiver
      default:
        let bound = try arguments.bind(name, ["key", "default"], required: 1)
        return try mapping.entries[key(bound[0] ?? .none)] ?? bound[1] ?? Value.none
      }
    case .float(let value): return .bool(value.isFinite && value == value.rounded())
    case .integer(let value):
      return name == "bit_length" ? .integer(Int.bitWidth - value.magnitude.leadingZeroBitCount) : .bool(true)
    case .loop(let loop): return try callMethod(name, of: loop, arguments)
    case .cycler(let cycler):
      if name == "reset" {
        cycler.position = 0
        return .none
      }
      defer { cycler.position = (cycler.position + 1) % cycler.items.count }
      return cycler.items[cycler.position]
    default: throw TemplateError.runtime("'\(typeName(receiver))' has no method '\(name)'")
    }
  }

  private func callMethod(_ name: String, of loop: LoopContext, _ arguments: Arguments) throws -> Value {
    let values = arguments.positional
    if name == "changed" {
      if let last = loop.lastChanged, last.count == values.count, try zip(last, values).allSatisfy(areEqual) {
        return .bool(false)
      }
      // What a loop remembers may hold the loop itself; its depth is then not known.
      guard values.allSatisfy({ $0.depth < options.limits.valueDepth / 2 }) else {
        throw TemplateError(.limit, "values nest too deeply for loop.changed")
      }
      for case .loop in values { throw TemplateError.runtime("loop.changed does not take loops") }
      loop.lastChanged = values
      return .bool(true)
    }
    guard !values.isEmpty else { throw TemplateError.runtime("no items for cycling given") }
    return values[loop.index0 % values.count]
  }

  // MARK: Strings

  private func callMethod(_ name: String, of text: String, _ arguments: Arguments) throws -> Value {
    try charge(bytes: text.utf8.count)
    switch name {
    case "upper": return .string(text.uppercased())
    case "lower": return .string(text.pythonLowercased)
    case "casefold": return .string(text.lowercased().replacing("ß", with: "ss"))
    case "capitalize": return .string(text.pythonCapitalized)
    case "title": return .string(text.pythonTitle)
    case "swapcase": return .string(text.pythonSwapcased)
    case "strip", "lstrip", "rstrip":
      let characters = try arguments.bind(name, ["chars"])[0].given.map { try string($0, "what to strip") }
      return .string(text.pythonStripped(characters, left: name != "rstrip", right: name != "lstrip"))
    case "split", "rsplit": return try split(text, arguments, fromRight: name == "rsplit")
    case "splitlines":
      let keepEnds = try arguments.bind(name, ["keepends"])[0].map(isTrue) ?? false
      return try list(text.pythonLines(keepEnds: keepEnds).map(Value.string))
    case "startswith", "endswith": return try hasAffix(text, name, arguments)
    case "find", "rfind", "index", "rindex", "count": return try search(text, name, arguments)
    case "replace":
      let bound = try arguments.bind(name, ["old", "new", "count"], required: 2)
      let count = try bound[2].map { try integer($0, "the count") } ?? -1
      return .string(
        try replace(
          text, string(bound[0] ?? .none, "what to replace"), string(bound[1] ?? .none, "the replacement"),
          count))
    case "join":
      let parts = try items(of: arguments.bind(name, ["iterable"], required: 1)[0] ?? .none)
      return .string(try join(parts.map { try string($0, "an item to join") }, text))
    case "format": return .string(try format(text, arguments))
    case "removeprefix", "removesuffix":
      let affix = try string(arguments.bind(name, ["affix"], required: 1)[0] ?? .none, "the affix")
      let (bytes, part) = (Array(text.utf8), Array(affix.utf8))
      if name == "removeprefix" {
        return .string(
          bytes.starts(with: part) ? String(decoding: bytes[part.count...], as: UTF8.self) : text)
      }
      guard bytes.count >= part.count, bytes[(bytes.count - part.count)...].elementsEqual(part) else {
        return .string(text)
      }
      return .string(String(decoding: bytes[..<(bytes.count - part.count)], as: UTF8.self))
    case "partition", "rpartition": return try partition(text, name, arguments)
    case "center", "ljust", "rjust", "zfill": return try pad(text, name, arguments)
    case "expandtabs":
      let size = try arguments.bind(name, ["tabsize"])[0].map { try integer($0, "the tab size") } ?? 8
      return .string(try expandTabs(text, size))
    default: return .bool(classify(text, name))
    }
  }

  private func classify(_ text: String, _ name: String) -> Bool {
    let scalars = text.unicodeScalars
    func all(_ test: (Unicode.Scalar) -> Bool) -> Bool { !scalars.isEmpty && scalars.allSatisfy(test) }
    switch name {
    case "isascii": return scalars.allSatisfy(\.isASCII)
    case "isprintable": return scalars.allSatisfy(\.isPythonPrintable)
    case "isspace": return all(\.isPythonSpace)
    case "isalpha": return all(\.isLetter)
    case "isalnum": return all(\.isAlphanumeric)
    case "isnumeric": return all { $0.properties.numericType != nil }
    case "isdigit":
      return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
    case "isdecimal": return all { $0.properties.numericType == .decimal }
    case "islower": return text.isLowercase
    case "isupper": return text.isUppercase
    case "isidentifier":
      guard let first = scalars.first else { return false }
      return (first == "_" || first.properties.isXIDStart) && scalars.allSatisfy(\.properties.isXIDContinue)
    default:  // istitle
      var found = false
      var inWord = false
      for scalar in scalars {
        let isCapital = scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter
        if scalar.isCased, isCapital == inWord { return false }
        found = found || scalar.isCased
        inWord = scalar.isCased
      }
      return found
    }
  }

  private func split(_ text: String, _ arguments: Arguments, fromRight: Bool) throws -> Value {
    let bound = try arguments.bind("split", ["sep", "maxsplit"])
    let separator = try bound[0].given.map { Array(try string($0, "the separator").utf8) }
    let limit = try bound[1].map { try integer($0, "maxsplit") } ?? -1
    let maximum = limit < 0 ? Int.max : limit
    var parts: [String] = []
    if let separator {
      guard !separator.isEmpty else { throw TemplateError.runtime("empty separator") }
      let bytes = Array(text.utf8)
      var cuts = bytes.offsets(of: separator, limit: fromRight ? .max : maximum)
      if fromRight { cuts = bytes.offsetsFromRight(of: separator, limit: maximum) }
      var start = 0
      for cut in cuts {
        parts.append(String(decoding: bytes[start..<cut], as: UTF8.self))
        start = cut + separator.count
      }
      parts.append(String(decoding: bytes[start...], as: UTF8.self))
    } else {
      // Runs of white space separate, and there is none at the ends.
      var scalars = Array(text.unicodeScalars)
      if fromRight { scalars.reverse() }
      var rest = scalars.drop(while: \.isPythonSpace)
      while !rest.isEmpty {
        let word = parts.count < maximum ? rest.prefix { !$0.isPythonSpace } : rest
        parts.append(fromRight ? String(word.reversed()) : String(word))
        rest = rest[word.endIndex...].drop(while: \.isPythonSpace)
      }
      if fromRight { parts.reverse() }
    }
    return try list(parts.map(Value.string))
  }

  private func hasAffix(_ text: String, _ name: String, _ arguments: Arguments) throws -> Value {
    let bound = try arguments.bind(name, ["affix", "start", "end"], required: 1)
    let range = try subrange(of: text, bound[1].given, bound[2].given)
    let bytes = Array(range.text.utf8)
    let affixes: [Value]
    if case .tuple(let sequence)? = bound[0] {
      affixes = sequence.items
    } else {
      affixes = [bound[0] ?? .none]
    }
    for affix in affixes {
      let part = Array(try string(affix, "\(name)'s argument").utf8)
      guard range.isValid, part.count <= bytes.count else { continue }
      let found = name == "startswith" ? bytes[..<part.count] : bytes[(bytes.count - part.count)...]
      if found.elementsEqual(part) { return .bool(true) }
    }
    return .bool(false)
  }

  /// The part of `text` between two positions, and where it begins, in scalars.
  private func subrange(
    of text: String, _ start: Value?, _ end: Value?
  ) throws -> (text: String, offset: Int, isValid: Bool) {
    guard start != nil || end != nil else { return (text, 0, true) }
    let scalars = Array(text.unicodeScalars)
    func clamp(_ value: Value?, _ missing: Int) throws -> Int {
      guard let value else { return missing }
      let index = try integer(value, "a position")
      return min(max(index < 0 ? index &+ scalars.count : index, 0), scalars.count)
    }
    let low = try clamp(start, 0)
    let high = try clamp(end, scalars.count)
    let isBeyond = try start.map { try integer($0, "a position") > scalars.count } ?? false
    guard low <= high, !isBeyond else { return ("", low, false) }
    return (String(scalars[low..<high]), low, true)
  }

  private func search(_ text: String, _ name: String, _ arguments: Arguments) throws -> Value {
    let bound = try arguments.bind(name, ["sub", "start", "end"], required: 1)
    let part = Array(try string(bound[0] ?? .none, "what to find").utf8)
    let range = try subrange(of: text, bound[1].given, bound[2].given)
    let bytes = Array(range.text.utf8)
    if name == "count" {
      guard range.isValid else { return .integer(0) }
      return .integer(
        part.isEmpty ? range.text.unicodeScalars.count + 1 : bytes.offsets(of: part, limit: .max).count)
    }
    let isFromRight = name.hasPrefix("r")
    let offset =
      part.isEmpty
      ? (isFromRight ? bytes.count : 0)
      : isFromRight
        ? bytes.offsetsFromRight(of: part, limit: 1).first : bytes.offsets(of: part, limit: 1).first
    guard let offset, range.isValid else {
      if name.hasSuffix("find") { return .integer(-1) }
      throw TemplateError.runtime("substring not found")
    }
    return .integer(range.offset + bytes[..<offset].count { $0 & 0xC0 != 0x80 })
  }

  func replace(_ text: String, _ old: String, _ new: String, _ count: Int) throws -> String {
    let limit = count < 0 ? Int.max : count
    guard !old.isEmpty else {
      // Between all characters and at both ends.
      let scalars = Array(text.unicodeScalars)
      let insertions = min(limit, scalars.count + 1)
      try charge(bytes: text.utf8.count + insertions * min(new.utf8.count, 1 << 30))
      var result = ""
      for (index, scalar) in scalars.enumerated() {
        if index < insertions { result += new }
        result.unicodeScalars.append(scalar)
      }
      return insertions > scalars.count ? result + new : result
    }
    let (bytes, part) = (Array(text.utf8), Array(old.utf8))
    let cuts = bytes.offsets(of: part, limit: limit)
    if cuts.isEmpty { return text }
    let (added, overflow) = cuts.count.multipliedReportingOverflow(by: new.utf8.count)
    try charge(bytes: overflow ? .max : bytes.count + min(added, 1 << 40))
    var result: [UInt8] = []
    var start = 0
    for cut in cuts {
      result += bytes[start..<cut]
      result += new.utf8
      start = cut + part.count
    }
    return String(decoding: result + bytes[start...], as: UTF8.self)
  }

  func join(_ parts: [String], _ separator: String) throws -> String {
    var bytes = 0
    for part in parts {
      bytes += part.utf8.count + separator.utf8.count
      guard bytes <= options.limits.stringBytes else { break }
    }
    try charge(bytes: bytes)
    return parts.joined(separator: separator)
  }

  private func partition(_ text: String, _ name: String, _ arguments: Arguments) throws -> Value {
    let separator = try string(arguments.bind(name, ["sep"], required: 1)[0] ?? .none, "the separator")
    guard !separator.isEmpty else { throw TemplateError.runtime("empty separator") }
    let (bytes, part) = (Array(text.utf8), Array(separator.utf8))
    let cut =
      name == "partition"
      ? bytes.offsets(of: part, limit: 1).first : bytes.offsetsFromRight(of: part, limit: 1).first
    guard let cut else {
      return try tuple((name == "partition" ? [text, "", ""] : ["", "", text]).map(Value.string))
    }
    let before = String(decoding: bytes[..<cut], as: UTF8.self)
    let after = String(decoding: bytes[(cut + part.count)...], as: UTF8.self)
    return try tuple([.string(before), .string(separator), .string(after)])
  }

  private func pad(_ text: String, _ name: String, _ arguments: Arguments) throws -> Value {
    let bound = try arguments.bind(name, name == "zfill" ? ["width"] : ["width", "fillchar"], required: 1)
    let width = try integer(bound[0] ?? .none, "the width")
    let fill = try name == "zfill" ? "0" : bound[1].map { try string($0, "the fill character") } ?? " "
    guard fill.unicodeScalars.count == 1 else {
      throw TemplateError.runtime("The fill character must be exactly one character long")
    }
    return .string(try pad(text, to: width, with: fill, name))
  }

  /// `center`, `ljust`, `rjust` and `zfill`.
  func pad(_ text: String, to width: Int, with fill: String, _ name: String) throws -> String {
    let count = text.unicodeScalars.count
    guard width > count else { return text }
    let missing = width - count
    try charge(bytes: min(missing, 1 << 40) * fill.utf8.count + text.utf8.count)
    func filling(_ count: Int) -> String { String(repeating: fill, count: count) }
    switch name {
    case "ljust": return text + filling(missing)
    case "rjust": return filling(missing) + text
    case "zfill":
      guard let sign = text.unicodeScalars.first, sign == "-" || sign == "+" else {
        return filling(missing) + text
      }
      return String(sign) + filling(missing) + String(text.unicodeScalars.dropFirst())
    default:
      // CPython puts the odd character to the left only when both missing and width are odd.
      let left = missing / 2 + (missing & width & 1)
      return filling(left) + text + filling(missing - left)
    }
  }

  private func expandTabs(_ text: String, _ size: Int) throws -> String {
    var result = ""
    var column = 0
    for scalar in text.unicodeScalars {
      if scalar == "\t" {
        let count = size > 0 ? size - column % size : 0
        try charge(bytes: result.utf8.count + min(count, 1 << 40))
        result += String(repeating: " ", count: count)
        column += count
      } else {
        result.unicodeScalars.append(scalar)
        column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
      }
    }
    return result
  }
}

extension [UInt8] {
  /// Where `part`, which is not empty, begins: from the left, without overlap.
  func offsets(of part: [UInt8], limit: Int) -> [Int] {
    var offsets: [Int] = []
    var index = 0
    withUnsafeBufferPointer { bytes in
      while index + part.count <= bytes.count, offsets.count < limit {
        if bytes[index] == part[0], Self.matches(bytes, part, at: index) {
          offsets.append(index)
          index += part.count
        } else {
          index += 1
        }
      }
    }
    return offsets
  }

  /// The same from the right; in ascending order.
  func offsetsFromRight(of part: [UInt8], limit: Int) -> [Int] {
    var offsets: [Int] = []
    var index = count - part.count
    withUnsafeBufferPointer { bytes in
      while index >= 0, offsets.count < limit {
        if bytes[index] == part[0], Self.matches(bytes, part, at: index) {
          offsets.append(index)
          index -= part.count
        } else {
          index -= 1
        }
      }
    }
    return offsets.reversed()
  }

  private static func matches(_ bytes: UnsafeBufferPointer<UInt8>, _ part: [UInt8], at index: Int) -> Bool {
    for offset in part.indices where bytes[index + offset] != part[offset] { return false }
    return true
  }
}

extension String {
  /// The byte at which `part` first begins.
  func firstOffset(of part: String) -> Int? {
    part.isEmpty ? 0 : Array(utf8).offsets(of: Array(part.utf8), limit: 1).first
  }
}
