import Foundation
import JSON

extension Filters {
  static let text: [String: Filter] = [
    "upper": { interpreter, value, _ in .string(try interpreter.text(of: value).uppercased()) },
    "lower": { interpreter, value, _ in .string(try interpreter.text(of: value).pythonLowercased) },
    "capitalize": { interpreter, value, _ in .string(try interpreter.text(of: value).pythonCapitalized) },
    "string": { interpreter, value, _ in .string(try interpreter.text(of: value)) },
    "safe": { interpreter, value, _ in .string(try interpreter.text(of: value)) },
    "trim": { interpreter, value, arguments in
      let characters = try arguments.bind("trim", ["chars"])[0].given.map {
        try interpreter.string($0, "what to trim")
      }
      return .string(try interpreter.text(of: value).pythonStripped(characters))
    },
    "title": { interpreter, value, _ in
      var result = ""
      var word = String.UnicodeScalarView()
      func finish() {
        guard let first = word.first else { return }
        result += first.properties.uppercaseMapping + String(word.dropFirst()).pythonLowercased
        word = .init()
      }
      for scalar in try interpreter.text(of: value).unicodeScalars {
        guard scalar.isPythonSpace || "-({[<".unicodeScalars.contains(scalar) else {
          word.append(scalar)
          continue
        }
        finish()
        result.unicodeScalars.append(scalar)
      }
      finish()
      return .string(result)
    },
    "center": { interpreter, value, arguments in
      let width = try arguments.bind("center", ["width"])[0].map { try interpreter.integer($0, "the width") }
      return .string(try interpreter.pad(interpreter.text(of: value), to: width ?? 80, with: " ", "center"))
    },
    "replace": { interpreter, value, arguments in
      let bound = try arguments.bind("replace", ["old", "new", "count"], required: 2)
      let count = try bound[2].given.map { try interpreter.integer($0, "the count") } ?? -1
      return .string(
        try interpreter.replace(
          interpreter.text(of: value), interpreter.text(of: bound[0] ?? .none),
          interpreter.text(of: bound[1] ?? .none), count))
    },
    "format": { interpreter, value, arguments in
      guard arguments.positional.isEmpty || arguments.keyword.isEmpty else {
        throw TemplateError.runtime("can't handle positional and keyword arguments at the same time")
      }
      let format = try interpreter.text(of: value)
      guard arguments.keyword.isEmpty else {
        let mapping = try interpreter.call(.dict, Arguments(keyword: arguments.keyword))
        return .string(try interpreter.printf(format, mapping))
      }
      return .string(try interpreter.printf(format, interpreter.tuple(arguments.positional)))
    },
    "indent": { interpreter, value, arguments in
      let bound = try arguments.bind("indent", ["width", "first", "blank"])
      let indentation: String
      if case .string(let text)? = bound[0] {
        indentation = text
      } else {
        let width = try bound[0].map { try interpreter.integer($0, "the width") } ?? 4
        try interpreter.charge(bytes: width)
        indentation = String(repeating: " ", count: max(0, width))
      }
      let isBlankIndented = bound[2].map(interpreter.isTrue) ?? false
      let lines = try (interpreter.string(value, "what to indent") + "\n").pythonLines()
      try interpreter.charge(bytes: min(lines.count * indentation.utf8.count, 1 << 50))
      var result = lines.first ?? ""
      for line in lines.dropFirst() {
        result += "\n" + (line.isEmpty && !isBlankIndented ? "" : indentation) + line
      }
      return .string((bound[1].map(interpreter.isTrue) ?? false) ? indentation + result : result)
    },
    "truncate": { interpreter, value, arguments in
      let bound = try arguments.bind("truncate", ["length", "killwords", "end", "leeway"])
      let scalars = Array(try interpreter.string(value, "what to truncate").unicodeScalars)
      let length = try bound[0].map { try interpreter.integer($0, "the length") } ?? 255
      let end = try bound[2].map { try interpreter.string($0, "the end") } ?? "..."
      let leeway = try bound[3].given.map { try interpreter.integer($0, "the leeway") } ?? 5
      let kept = length - end.unicodeScalars.count
      guard kept >= 0, leeway >= 0 else { throw TemplateError.runtime("expected length >= the end's length") }
      if scalars.count <= length &+ leeway { return value }
      let text = scalars[..<kept]
      let cut = (bound[1].map(interpreter.isTrue) ?? false) ? nil : text.lastIndex(of: " ")
      return .string(String(text[..<(cut ?? kept)]) + end)
    },
    "wordcount": { interpreter, value, _ in
      var count = 0
      var inWord = false
      for scalar in try interpreter.text(of: value).unicodeScalars {
        if scalar.isPythonWord, !inWord { count += 1 }
        inWord = scalar.isPythonWord
      }
      return .integer(count)
    },
    "escape": { interpreter, value, _ in .string(escape(try interpreter.text(of: value))) },
    "striptags": { interpreter, value, _ in
      var rest = try interpreter.text(of: value)
      for (open, close) in [("<!--", "-->"), ("<", ">")] {
        while let start = rest.range(of: open),
          let end = rest.range(of: close, range: start.upperBound..<rest.endIndex)
        {
          try interpreter.charge(bytes: rest.utf8.count)
          rest.removeSubrange(start.lowerBound..<end.upperBound)
        }
      }
      let words = rest.unicodeScalars.split(whereSeparator: \.isPythonSpace).map { String(Substring($0)) }
      return .string(
        words.joined(separator: " ").replacing("&lt;", with: "<").replacing("&gt;", with: ">")
          .replacing("&#34;", with: "\"").replacing("&quot;", with: "\"").replacing("&#39;", with: "'")
          .replacing("&amp;", with: "&"))
    },
    "urlencode": { interpreter, value, _ in
      switch value {
      case .string, .integer, .float, .bool, .none:
        return .string(percentEncode(try interpreter.text(of: value), isQuery: false))
      default:
        var pairs = value
        if case .dictionary(let mapping) = value { pairs = .view(.init(kind: .items, mapping: mapping)) }
        return .string(
          try interpreter.items(of: pairs).map { pair in
            let pair = try interpreter.items(of: pair)
            guard pair.count == 2 else {
              throw TemplateError.runtime("urlencode needs pairs of key and value")
            }
            return try pair.map { percentEncode(try interpreter.text(of: $0), isQuery: true) }
              .joined(separator: "=")
          }.joined(separator: "&"))
      }
    },
    "xmlattr": { interpreter, value, arguments in
      guard case .dictionary(let mapping) = value else {
        throw TemplateError.runtime("xmlattr needs a mapping, not '\(interpreter.typeName(value))'")
      }
      let hasSpace = try arguments.bind("xmlattr", ["autospace"])[0].map(interpreter.isTrue) ?? true
      var attributes: [String] = []
      for (key, value) in mapping.entries {
        switch value {
        case .none, .undefined: continue
        default: break
        }
        let name = try interpreter.text(of: interpreter.value(of: key))
        guard !name.unicodeScalars.contains(where: { " \t\n\r\u{0B}\u{0C}/>=".unicodeScalars.contains($0) })
        else {
          throw TemplateError.runtime("Invalid character in attribute name: \(name.pythonRepresentation)")
        }
        attributes.append("\(escape(name))=\"\(escape(try interpreter.text(of: value)))\"")
      }
      let text = attributes.joined(separator: " ")
      return .string(hasSpace && !text.isEmpty ? " " + text : text)
    },
    "tojson": { interpreter, value, arguments in
      let bound = try arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])
      var indentation: String?
      switch bound[1].given {
      case .some(.string(let text)): indentation = text
      case .some(let width):
        let width = try interpreter.integer(width, "the indentation")
        try interpreter.charge(bytes: width)
        indentation = String(repeating: " ", count: max(0, width))
      case nil: break
      }
      let separators = try bound[2].given.map { try interpreter.items(of: $0) }
      guard separators == nil || separators?.count == 2 else {
        throw TemplateError.runtime("separators are a pair of item and key separator")
      }
      let text = try interpreter.json(value).serialized(
        indentation: indentation, sortedKeys: bound[3].map(interpreter.isTrue) ?? false,
        escapeNonASCII: bound[0].map(interpreter.isTrue) ?? false,
        itemSeparator: separators.map { try interpreter.string($0[0], "a separator") },
        keySeparator: separators.map { try interpreter.string($0[1], "a separator") } ?? ": ")
      try interpreter.charge(bytes: text.utf8.count)
      return .string(text)
    },
  ]

  private static func escape(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") {
      switch $1 {
      case "&": $0 += "&amp;"
      case "<": $0 += "&lt;"
      case ">": $0 += "&gt;"
      case "'": $0 += "&#39;"
      case "\"": $0 += "&#34;"
      default: $0.unicodeScalars.append($1)
      }
    }
  }

  /// `urllib.parse.quote`, and `quote_plus` for what belongs into a query.
  private static func percentEncode(_ text: String, isQuery: Bool) -> String {
    text.utf8.reduce(into: "") { result, byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"),
        UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: "/") where !isQuery: result += "/"
      case UInt8(ascii: " ") where isQuery: result += "+"
      default: result += String(format: "%%%02X", byte)
      }
    }
  }
}
