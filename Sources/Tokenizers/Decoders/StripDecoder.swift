/// Takes a character off the start and the end of every token, a limited number of times.
struct StripDecoder: TokenDecoder {
  private let content: UInt32
  private let start: Int
  private let stop: Int

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    content = try configuration.character("content")
    start = try configuration.integer("start")
    stop = try configuration.integer("stop")
  }

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var character: [UInt8] = []
    UTF8Text.append(content, to: &character)
    return tokens.map { token in
      var token = token[...]
      for _ in 0..<start where token.starts(with: character) { token = token.dropFirst(character.count) }
      for _ in 0..<stop where token.suffix(character.count).elementsEqual(character) {
        token = token.dropLast(character.count)
      }
      return Array(token)
    }
  }
}
