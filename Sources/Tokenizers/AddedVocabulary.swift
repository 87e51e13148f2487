/// Finds added tokens in text: of several that begin at one place the longest, and from there on.
struct AddedVocabulary: Sendable {
  /// By id.
  private(set) var tokens: [Int32: AddedToken] = [:]
  /// What the tokens are written as in normalized text, where that differs from their content.
  private var normalizedContents: [Int32: [UInt8]] = [:]
  private var byContent: [[UInt8]: Int32] = [:]
  private var specialContents: Set<ArraySlice<UInt8>> = []
  private var plainTrie = TokenTrie()
  private var normalizedTrie = TokenTrie()

  /// Adds tokens one by one, each replacing the one of the same content; ids come from `assign`.
  init(_ added: [AddedToken], normalizer: (any Normalizer)?) {
    for token in added where !token.content.isEmpty {
      let content = Array(token.content.utf8)
      if let known = byContent[content], known != token.id { tokens[known] = nil }
      byContent[content] = token.id
      tokens[token.id] = token
      if token.special { specialContents.insert(content[...]) }
    }
    for (id, token) in tokens.sorted(by: { $0.key < $1.key }) {
      guard token.normalized else {
        plainTrie.insert(Array(token.content.utf8), id)
        continue
      }
      var text = AlignedText(token.content)
      normalizer?.normalize(&text)
      if text.bytes != Array(token.content.utf8) { normalizedContents[id] = text.bytes }
      normalizedTrie.insert(text.bytes, id)
    }
  }

  var hasNormalizedTokens: Bool { !normalizedTrie.isEmpty }
  var hasPlainTokens: Bool { !plainTrie.isEmpty }

  func id(_ content: String) -> Int32? { byContent[Array(content.utf8)] }

  /// What decoders see of an added token.
  func decodedContent(_ id: Int32) -> [UInt8]? {
    tokens[id].map { normalizedContents[id] ?? Array($0.content.utf8) }
  }

  /// Whether a token's text is that of a special token.
  func isSpecial(_ content: ArraySlice<UInt8>) -> Bool { specialContents.contains(content) }

  /// Calls `body` with the parts of `range`: added tokens, and the text between them.
  func find(
    in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, normalized: Bool,
    _ body: (TextPieces.Piece) -> Void
  ) {
    let trie = normalized ? normalizedTrie : plainTrie
    let properties = ScalarProperties.shared
    var done = range.lowerBound
    var position = range.lowerBound
    while let match = trie.next(in: text, position..<range.upperBound) {
      var (start, end) = (match.start, match.end)
      position = end
      guard let token = tokens[match.id] else { continue }
      if token.singleWord {
        let before =
          start > range.lowerBound
          && properties.isWord(UTF8Text.scalar(text, at: UTF8Text.start(text, before: start)).value)
        let behind = end < range.upperBound && properties.isWord(UTF8Text.scalar(text, at: end).value)
        if before || behind { continue }
      }
      if token.lstrip {
        while start > done {
          let previous = UTF8Text.start(text, before: start)
          guard properties.isWhitespace(UTF8Text.scalar(text, at: previous).value) else { break }
          start = previous
        }
        // White space that the token before has taken is taken.
        start = max(start, done)
      }
      if token.rstrip {
        while end < range.upperBound {
          let (scalar, length) = UTF8Text.scalar(text, at: end)
          guard properties.isWhitespace(scalar) else { break }
          end += length
        }
      }
      if done < start { body(TextPieces.Piece(start: done, end: start)) }
      body(TextPieces.Piece(start: start, end: end, token: match.id))
      done = end
    }
    if done < range.upperBound { body(TextPieces.Piece(start: done, end: range.upperBound)) }
  }
}

/// The contents of added tokens, as a trie over bytes.
private struct TokenTrie: Sendable {
  private struct Node: Sendable {
    var children: [(byte: UInt8, node: Int)] = []
    var id: Int32 = -1
  }

  private var nodes: [Node] = [Node()]
  /// Which bytes a token can begin with: most bytes of a text are none.
  private var begins = [Bool](repeating: false, count: 256)

  var isEmpty: Bool { nodes.count == 1 }

  mutating func insert(_ content: [UInt8], _ id: Int32) {
    guard let first = content.first else { return }
    begins[Int(first)] = true
    var node = 0
    for byte in content {
      if let child = child(node, byte) {
        node = child
      } else {
        nodes.append(Node())
        nodes[node].children.append((byte, nodes.count - 1))
        node = nodes.count - 1
      }
    }
    nodes[node].id = id
  }

  @inline(__always)
  private func child(_ node: Int, _ byte: UInt8) -> Int? {
    for (candidate, child) in nodes[node].children where candidate == byte { return child }
    return nil
  }

  /// The leftmost, and there the longest, match in `range`.
  func next(
    in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>
  ) -> (start: Int, end: Int, id: Int32)? {
    guard !isEmpty else { return nil }
    return begins.withUnsafeBufferPointer { begins in
      var start = range.lowerBound
      while start < range.upperBound {
        guard begins[Int(text[start])] else {
          start += 1
          continue
        }
        var node = 0
        var position = start
        var found: (Int, Int32)?
        while position < range.upperBound, let next = child(node, text[position]) {
          node = next
          position += 1
          if nodes[node].id >= 0 { found = (position, nodes[node].id) }
        }
        if let (end, id) = found { return (start, end, id) }
        start += 1
      }
      return nil
    }
  }
}
