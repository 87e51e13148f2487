import Datasets
import JSON

/// A tokenizer small enough to be seen through: words, each with the space before it, single marks, and the
/// two special tokens of ChatML. Ids are handed out in the order of the word list.
enum WordTokenization {
  static let endOfSequence: Int32 = 0
  private static let special = ["<|im_end|>", "<|im_start|>"]

  /// Ids from the bytes of a token, so that equal tokens have equal ids.
  static func id(_ token: String) -> Int32 {
    if let index = special.firstIndex(of: token) { return Int32(index) }
    return Int32(token.utf8.reduce(5381) { ($0 &* 33 &+ Int($1)) % 1_000_003 }) + 10
  }

  static func pieces(_ text: String) -> [String] {
    var pieces: [String] = []
    var rest = Substring(text)
    while let first = rest.first {
      if let token = special.first(where: { rest.hasPrefix($0) }) {
        pieces.append(token)
        rest = rest.dropFirst(token.count)
        continue
      }
      var piece = String(rest.removeFirst())
      if first == " " || first.isLetter {
        while let next = rest.first, next.isLetter {
          piece.append(rest.removeFirst())
          _ = next
        }
      }
      pieces.append(piece)
    }
    return pieces
  }

  static let encode: TextTokenization.Encode = { text, _ in
    var (tokens, offsets, position): ([Int32], [Range<Int>?], Int) = ([], [], 0)
    for piece in pieces(text) {
      tokens.append(id(piece))
      offsets.append(position..<position + piece.utf8.count)
      position += piece.utf8.count
    }
    return (tokens, offsets)
  }

  static let render: TextTokenization.Render = { messages, tools in
    var (text, supervised) = ("", [Range<Int>]())
    if let tools { text += "<|im_start|>tools\n\(JSONValue.array(tools).serialized())<|im_end|>\n" }
    for message in messages {
      let role = message["role"]?.stringValue ?? ""
      text += "<|im_start|>\(role)\n"
      let start = text.utf8.count
      text += (message["content"]?.stringValue ?? "") + "<|im_end|>"
      if role == "assistant" { supervised.append(start..<text.utf8.count) }
      text += "\n"
    }
    return (text, supervised)
  }

  static let chat = TextTokenization(
    identity: "words", endOfSequence: endOfSequence, encode: encode, render: render)
  static let plain = TextTokenization(identity: "words", endOfSequence: endOfSequence, encode: encode)

  /// The pieces of a text that the example supervises.
  static func supervised(_ example: Example, in text: String) -> [String] {
    zip(pieces(text) + ["<end>"], example.labels).filter { $0.1 != ignoreIndex }.map(\.0)
  }
}
