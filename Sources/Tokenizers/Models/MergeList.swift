import JSON

/// The merges of a BPE model as `tokenizer.json` lists them, by rank.
struct MergeList: Sendable {
  /// The left and the right part of each merge, in turns: side by side, as what they merge into.
  private var parts = ByteStrings()

  var count: Int { parts.count / 2 }
  var bytes: [UInt8] { parts.bytes }

  @inline(__always)
  func left(_ rank: Int) -> Range<Int> { parts.range(2 * rank) }

  @inline(__always)
  func right(_ rank: Int) -> Range<Int> { parts.range(2 * rank + 1) }

  /// Reads the array of `["a", "b"]` or `"a b"` that comes next. One that is no list of merges is an error
  /// only to whom asks for it.
  static func read(_ parser: inout JSONParser) throws(JSONError) -> Result<MergeList, TokenizerError> {
    var merges = MergeList()
    var failure: TokenizerError?
    var index = 0
    try parser.elements { parser throws(JSONError) in
      let found = try merges.readMerge(&parser, index)
      failure = failure ?? found
      index += 1
    }
    return failure.map(Result.failure) ?? .success(merges)
  }

  /// Reads one merge; returns what is wrong with it.
  private mutating func readMerge(_ parser: inout JSONParser, _ index: Int) throws(JSONError)
    -> TokenizerError?
  {
    if parser.isAtString {
      var line: [UInt8] = []
      try parser.string(into: &line)
      return append(line, index)
    }
    guard parser.isAtArray else {
      _ = try parser.value()
      return Self.neither(index)
    }
    var isPair = true
    var count = 0
    try parser.elements { parser throws(JSONError) in
      count += 1
      guard count <= 2, parser.isAtString else {
        isPair = false
        _ = try parser.value()
        return
      }
      try parser.string(into: &parts.bytes)
      parts.endString()
    }
    return isPair && count == 2 ? nil : Self.neither(index)
  }

  /// Appends the merge `a b`; returns what is wrong with it.
  private mutating func append(_ line: [UInt8], _ index: Int) -> TokenizerError? {
    // The first line of the `merges.txt` that the list was made from.
    guard !line.starts(with: "#version".utf8) else { return nil }
    do throws(TokenizerError) {
      let (left, right) = try Self.split(line, index)
      parts.append(left)
      parts.append(right)
      return nil
    } catch {
      return error
    }
  }

  /// Splits `a b` at its only space.
  static func split(
    _ line: [UInt8], _ index: Int
  ) throws(TokenizerError) -> (left: ArraySlice<UInt8>, right: ArraySlice<UInt8>) {
    guard let space = line.firstIndex(of: 0x20), line.lastIndex(of: 0x20) == space else {
      throw TokenizerError(
        .malformed,
        "Merge \(index) of the tokenizer, \(String(decoding: line, as: UTF8.self).debugDescription), is not two "
          + "tokens with one space between them. Download the file again.")
    }
    return (line[..<space], line[(space + 1)...])
  }

  private static func neither(_ index: Int) -> TokenizerError {
    TokenizerError(
      .malformed,
      "`model.merges[\(index)]` of tokenizer.json is neither `\"a b\"` nor `[\"a\", \"b\"]`. Correct it, or "
        + "download the file again.")
  }
}
