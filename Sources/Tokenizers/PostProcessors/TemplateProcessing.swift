import JSON

/// Puts special tokens around one text or two: `<s> A </s> B </s>`.
struct TemplateProcessing: PostProcessor {
  private enum Piece: Sendable {
    case text(Int, type: Int32)
    case special(ids: [Int32], type: Int32)
  }

  private let single: [Piece]
  private let pair: [Piece]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    single = try Self.template(configuration, "single")
    pair = try Self.template(configuration, "pair")
    func count(_ pieces: [Piece], _ number: Int) -> Int {
      pieces.count { if case .text(number, _) = $0 { true } else { false } }
    }
    guard count(single, 1) == 0, count(single, 0) == 1 else {
      throw configuration.wrong("single", "a template with sequence A once and without B")
    }
    guard count(pair, 0) == 1, count(pair, 1) == 1 else {
      throw configuration.wrong("pair", "a template with the sequences A and B once each")
    }
  }

  private static func template(
    _ configuration: ComponentConfiguration, _ key: String
  ) throws(TokenizerError) -> [Piece] {
    var pieces: [Piece] = []
    for item in try configuration.array(key) {
      if let sequence = item["Sequence"], let name = sequence["id"]?.stringValue {
        guard name == "A" || name == "B" else {
          throw configuration.wrong(key, "a template of the sequences A and B")
        }
        pieces.append(.text(name == "A" ? 0 : 1, type: type(sequence)))
      } else if let special = item["SpecialToken"], let name = special["id"]?.stringValue {
        let known = configuration.value["special_tokens"]?[name]?["ids"]?.arrayValue
        let ids = known?.compactMap(\.intValue).compactMap { Int32(exactly: $0) }
        guard let ids, ids.count == known?.count, ids.allSatisfy({ $0 >= 0 }) else {
          throw TokenizerError(
            .malformed,
            "`\(configuration.path).\(key)` of tokenizer.json uses the special token \(name.debugDescription), "
              + "for which `special_tokens` has no ids. Add it there.")
        }
        pieces.append(.special(ids: ids, type: type(special)))
      } else {
        throw configuration.wrong(key, "an array of `Sequence` and `SpecialToken`")
      }
    }
    return pieces
  }

  private static func type(_ piece: JSONValue) -> Int32 {
    Int32(truncatingIfNeeded: piece["type_id"]?.intValue ?? 0)
  }

  func process(_ encodings: [Encoding], addSpecialTokens: Bool) -> [Encoding] {
    var result: [Encoding] = []
    for piece in encodings.count > 1 ? pair : single {
      switch piece {
      case .text(let number, let type):
        var encoding = encodings[number]
        encoding.typeIDs = [Int32](repeating: type, count: encoding.ids.count)
        result.append(encoding)
      case .special(let ids, let type):
        if addSpecialTokens { result.append(Encoding(specialTokens: ids, type: type)) }
      }
    }
    return result
  }

  var affixes: (before: [Int32], behind: [Int32]) {
    var before: [Int32] = []
    var behind: [Int32] = []
    var isBehind = false
    for piece in single {
      switch piece {
      case .text: isBehind = true
      case .special(let ids, _): if isBehind { behind += ids } else { before += ids }
      }
    }
    return (before, behind)
  }
}
