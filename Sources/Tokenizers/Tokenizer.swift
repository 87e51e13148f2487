import Dispatch
import Foundation
import JSON
import Synchronization

/// A tokenizer as Hugging Face's `tokenizer.json` describes it: text to token ids and back, id for id
/// what the `tokenizers` package gives.
///
/// ```swift
/// let tokenizer = try Tokenizer(directory: modelDirectory)
/// let ids = tokenizer.encode("Hello, 世界")
/// let text = tokenizer.decode(ids)
/// ```
///
/// A text goes through these stages: added tokens are cut out, the rest is normalized, split into words,
/// each word is tokenized by the model, and the post-processor adds special tokens. The sections
/// `truncation` and `padding` of a file are not applied: they describe how a batch was once put together,
/// and here batches are ragged.
///
/// All methods may be called from several threads at a time.
public final class Tokenizer: Sendable {
  let normalizer: (any Normalizer)?
  let preTokenizer: (any PreTokenizer)?
  let model: any TokenizerModel
  let postProcessor: (any PostProcessor)?
  let addedVocabulary: AddedVocabulary
  let decoding: TokenDecoding
  private let caches = WordCachePool()
  private let affixes: (before: [Int32], behind: [Int32])
  /// Whether sources are tracked even for `encode`, because a component looks at them.
  private let needsSource: Bool

  /// What `tokenizer_config.json` and its siblings say.
  public let configuration: TokenizerConfiguration
  /// The files that the tokenizer came from, or would be saved as; they can outlive it.
  public let files: TokenizerFiles

  init(
    _ document: TokenizerDocument, configuration: TokenizerConfiguration, files: TokenizerFiles
  ) throws(TokenizerError) {
    normalizer = try document.normalizer()
    preTokenizer = try document.preTokenizer()
    model = try document.model()
    postProcessor = try document.postProcessor()
    addedVocabulary = AddedVocabulary(
      try document.addedTokens(model: model, configuration: configuration), normalizer: normalizer)
    decoding = TokenDecoding(
      decoder: try document.decoder(), model: model, addedVocabulary: addedVocabulary)
    affixes = postProcessor?.affixes ?? ([], [])
    needsSource = preTokenizer?.needsSource ?? false
    self.configuration = configuration
    self.files = files
  }

  // MARK: Encoding

  /// The token ids of a text.
  ///
  /// - Parameter addSpecialTokens: Let the post-processor add its tokens, such as a beginning-of-text
  ///   token. Special tokens that stand in the text are recognized in any case.
  public func encode(_ text: String, addSpecialTokens: Bool = true) -> [Int32] {
    var text = text
    return text.withUTF8 { encodeIDs(Array($0), addSpecialTokens) }
  }

  /// The token ids of bytes that may not be UTF-8: every maximal invalid part counts as U+FFFD, as in
  /// Python's `bytes.decode(errors="replace")`.
  public func encode(utf8 bytes: some Collection<UInt8>, addSpecialTokens: Bool = true) -> [Int32] {
    encodeIDs(LossyUTF8Decoder.decode(bytes), addSpecialTokens)
  }

  /// Token ids with their places in the text.
  public func encodeWithOffsets(_ text: String, addSpecialTokens: Bool = true) -> Encoding {
    Encoding(joining: postProcess([encoding(of: text, type: 0)], addSpecialTokens))
  }

  /// Token ids of two texts that belong together, joined as the post-processor says.
  public func encodeWithOffsets(
    _ text: String, pair: String, addSpecialTokens: Bool = true
  ) -> Encoding {
    Encoding(
      joining: postProcess(
        [encoding(of: text, type: 0), encoding(of: pair, type: 1)], addSpecialTokens))
  }

  /// The token ids of many texts, encoded on several threads.
  ///
  /// - Parameter threads: How many threads to use; as many as the machine has processors by default.
  public func encodeBatch(
    _ texts: [String], addSpecialTokens: Bool = true, threads: Int? = nil
  ) -> [[Int32]] {
    let threads = max(1, min(threads ?? ProcessInfo.processInfo.activeProcessorCount, texts.count))
    guard threads > 1 else { return texts.map { encode($0, addSpecialTokens: addSpecialTokens) } }
    // Several parts a thread, because texts differ in length.
    let size = max(1, texts.count / (threads * 8))
    let next = Mutex(0)
    let results = Mutex([[Int32]](repeating: [], count: texts.count))
    DispatchQueue.concurrentPerform(iterations: threads) { _ in
      while true {
        let start = next.withLock { next in
          defer { next += size }
          return next
        }
        guard start < texts.count else { return }
        let range = start..<min(start + size, texts.count)
        let part = texts[range].map { encode($0, addSpecialTokens: addSpecialTokens) }
        results.withLock { $0.replaceSubrange(range, with: part) }
      }
    }
    return results.withLock { $0 }
  }

  private func encodeIDs(_ bytes: [UInt8], _ addSpecialTokens: Bool) -> [Int32] {
    let text = pieces(of: bytes, tracksSource: needsSource)
    var sink = TokenSink(wantsLengths: false)
    let (before, behind) = addSpecialTokens ? affixes : ([], [])
    sink.reserve(bytes.count / 3 + before.count + behind.count)
    for id in before { sink.append(id, length: 0) }
    caches.withCache { cache in
      text.bytes.withUnsafeBufferPointer { buffer in
        for piece in text.pieces {
          if piece.isText {
            model.tokenize(
              UnsafeBufferPointer(rebasing: buffer[piece.start..<piece.end]),
              isByteLevel: text.isByteLevel, cache: &cache, into: &sink)
          } else {
            sink.append(piece.token, length: 0)
          }
        }
      }
    }
    for id in behind { sink.append(id, length: 0) }
    return sink.ids
  }

  /// Normalizes a text and splits it into words.
  private func pieces(of bytes: [UInt8], tracksSource: Bool) -> TextPieces {
    var text = TextPieces(source: bytes, tracksSource: tracksSource)
    text.append(TextPieces.Piece(start: 0, end: bytes.count))
    if addedVocabulary.hasPlainTokens {
      text.extract { addedVocabulary.find(in: $0, $1, normalized: false, $2) }
    }
    if let normalizer { text.rewrite(normalizer.normalize) }
    if addedVocabulary.hasNormalizedTokens {
      text.extract { addedVocabulary.find(in: $0, $1, normalized: true, $2) }
    }
    preTokenizer?.preTokenize(&text)
    if text.isByteLevel, !model.acceptsBytes { text.materializeByteLevel() }
    return text
  }

  /// Where the words of a text are, in UTF-8 bytes of the text: what the model sees one by one, and the
  /// added tokens between them.
  package func words(of text: String) -> [Range<Int>] {
    let text = pieces(of: Array(text.utf8), tracksSource: true)
    return text.pieces.map { text.source(of: $0.start..<$0.end) }
  }

  private func encoding(of source: String, type: Int32) -> Encoding {
    var source = source
    var encoding = Encoding()
    encoding.source = source.withUTF8 { Array($0) }
    let text = pieces(of: encoding.source, tracksSource: true)
    var sink = TokenSink(wantsLengths: true)
    caches.withCache { cache in
      text.bytes.withUnsafeBufferPointer { buffer in
        for piece in text.pieces {
          guard piece.isText else {
            sink.append(piece.token, length: piece.end - piece.start)
            encoding.offsets.append(text.source(of: piece.start..<piece.end))
            // With the white space that the token took along.
            encoding.spaces.append(TokenDecoding.spaces(text.bytes[piece.start..<piece.end]))
            continue
          }
          let first = sink.ids.count
          model.tokenize(
            UnsafeBufferPointer(rebasing: buffer[piece.start..<piece.end]),
            isByteLevel: text.isByteLevel, cache: &cache, into: &sink)
          var position = piece.start
          for length in sink.lengths[first...] {
            // Lengths fall short where unknown characters were dropped, never beyond the piece.
            let end = min(position + Int(length), piece.end)
            encoding.offsets.append(text.source(of: position..<end))
            position = end
          }
          encoding.spaces += sink.ids[first...].map(decoding.spaces)
        }
      }
    }
    encoding.ids = sink.ids
    encoding.typeIDs = [Int32](repeating: type, count: sink.ids.count)
    encoding.isSpecial = [Bool](repeating: false, count: sink.ids.count)
    return encoding
  }

  private func postProcess(_ encodings: [Encoding], _ addSpecialTokens: Bool) -> [Encoding] {
    postProcessor?.process(encodings, addSpecialTokens: addSpecialTokens) ?? encodings
  }

  // MARK: Decoding

  /// The text of token ids. Ids that no token has are left out; bytes that are no UTF-8 become U+FFFD.
  ///
  /// - Parameters:
  ///   - skipSpecialTokens: Leave special tokens out.
  ///   - cleanUpTokenizationSpaces: Take out the space before punctuation and contractions; by default
  ///     what `tokenizer_config.json` says, else no.
  public func decode(
    _ ids: [Int32], skipSpecialTokens: Bool = false, cleanUpTokenizationSpaces: Bool? = nil
  ) -> String {
    let text = String(decoding: decoding.decode(ids, skipSpecialTokens), as: UTF8.self)
    let cleansUp = cleanUpTokenizationSpaces ?? configuration.cleanUpTokenizationSpaces
    return cleansUp ? Self.cleanUp(text) : text
  }

  /// The texts of several sequences.
  public func batchDecode(
    _ batch: [[Int32]], skipSpecialTokens: Bool = false, cleanUpTokenizationSpaces: Bool? = nil
  ) -> [String] {
    batch.map {
      decode(
        $0, skipSpecialTokens: skipSpecialTokens,
        cleanUpTokenizationSpaces: cleanUpTokenizationSpaces)
    }
  }

  /// As transformers' `clean_up_tokenization`, replacement by replacement.
  private static func cleanUp(_ text: String) -> String {
    let replacements = [
      (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
      (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ]
    var result = AlignedText(text)
    for (found, replacement) in replacements {
      result.replace(RegularExpression(literal: found), with: Array(replacement.utf8))
    }
    return String(decoding: result.bytes, as: UTF8.self)
  }

  // MARK: Vocabulary

  /// The id of a token, written as in the vocabulary (`Ġthe`, not ` the`); added tokens come first.
  public func tokenToID(_ token: String) -> Int32? {
    addedVocabulary.id(token) ?? model.tokens.id(token)
  }

  /// The token of an id, written as in the vocabulary.
  public func idToToken(_ id: Int32) -> String? {
    addedVocabulary.tokens[id]?.content ?? model.tokens.string(Int(id))
  }

  /// Number of tokens, added ones included.
  public var vocabularySize: Int {
    model.tokens.count + addedVocabulary.tokens.keys.count { model.tokens.bytes(Int($0)) == nil }
  }

  /// The tokens that are found in text as they are, by id.
  public var addedTokens: [AddedToken] { addedVocabulary.tokens.values.sorted { $0.id < $1.id } }

  /// The added tokens that are special.
  public var specialTokens: [AddedToken] { addedTokens.filter(\.special) }

  public var bosToken: String? { configuration.bosToken }
  public var eosToken: String? { configuration.eosToken }
  public var padToken: String? { configuration.padToken }
  public var unkToken: String? { configuration.unkToken }
  public var bosTokenID: Int32? { bosToken.flatMap(tokenToID) }
  public var eosTokenID: Int32? { eosToken.flatMap(tokenToID) }
  public var padTokenID: Int32? { padToken.flatMap(tokenToID) }
  public var unkTokenID: Int32? { unkToken.flatMap(tokenToID) }

  /// The Jinja source of the chat template; nil where the tokenizer has none.
  public var chatTemplateSource: String? { configuration.chatTemplates["default"] }

  /// How many tokens the model was made for; nil where the tokenizer does not say.
  public var modelMaxLength: Int? { configuration.modelMaxLength }
}
