/// Decodes tokens one at a time, as a model generates them, and gives out text as soon as it is whole:
/// never half a character. The pieces, joined, are what `Tokenizer.decode` gives for all tokens together
/// (without cleaning up spaces, which looks ahead).
///
/// ```swift
/// var decoder = StreamingDecoder(tokenizer, skipSpecialTokens: true)
/// for id in generated { print(decoder.append(id), terminator: "") }
/// print(decoder.finish())
/// ```
public struct StreamingDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  /// Byte-level tokens: bytes become text as they come.
  private var utf8 = LossyUTF8Decoder()
  /// Other tokens: the ones whose text is not settled, and before them the ones given out last, because
  /// decoders look at neighbours.
  private var window: [Int32] = []
  /// How much of `window` has been given out.
  private var settled = 0

  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = false) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// Takes one more token; returns the text that it completes, which may be empty.
  public mutating func append(_ id: Int32) -> String {
    if tokenizer.decoding.isByteLevel {
      var text: [UInt8] = []
      if let bytes = tokenizer.decoding.bytes(id, skipSpecialTokens) { utf8.append(bytes, to: &text) }
      return String(decoding: text, as: UTF8.self)
    }
    // A skipped token must not take part: it would push the others out of the window.
    guard tokenizer.decoding.bytes(id, skipSpecialTokens) != nil else { return "" }
    window.append(id)
    guard !tokenizer.decoding.isOpen(id) else { return "" }
    let (text, new) = unsettled()
    // A replacement character at the end may be the start of a character whose other bytes follow.
    guard !new.isEmpty, !text.elementsEqual(text.dropLast(3) + [0xEF, 0xBF, 0xBD]) else { return "" }
    window.removeFirst(settled)
    settled = window.count
    return String(decoding: new, as: UTF8.self)
  }

  /// Ends the text; returns what was held back.
  public mutating func finish() -> String {
    var text: [UInt8] = []
    if tokenizer.decoding.isByteLevel {
      utf8.finish(&text)
    } else {
      text = Array(unsettled().new)
      settled = 0
      window = []
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The text of the window, and the part of it that has not been given out.
  private func unsettled() -> (text: [UInt8], new: ArraySlice<UInt8>) {
    let before = tokenizer.decoding.decode(window[..<settled], skipSpecialTokens)
    let text = tokenizer.decoding.decode(window, skipSpecialTokens)
    return (text, text.dropFirst(before.count))
  }
}
