/// A tokenized text.
public struct Encoding: Equatable, Sendable {
  /// Token ids.
  public internal(set) var ids: [Int32]
  /// Where each token came from: UTF-8 offsets in the text that was given (in the second text for
  /// tokens of a pair's second text), always whole Unicode scalars. Tokens that share a scalar have the
  /// same range; special tokens that were added have the range `0..<0`.
  public internal(set) var offsets: [Range<Int>]
  /// 0, or 1 for the second text where the post-processor tells the two apart.
  public internal(set) var typeIDs: [Int32]
  /// Whether the post-processor added the token.
  public internal(set) var isSpecial: [Bool]
  /// Leading and trailing white space in each token, which some post-processors take out of offsets.
  var spaces: [(leading: Int, trailing: Int)] = []
  /// The text that offsets refer to, as long as post-processors may want to see it.
  var source: [UInt8] = []

  init() {
    ids = []
    offsets = []
    typeIDs = []
    isSpecial = []
  }

  init(specialTokens ids: [Int32], type: Int32) {
    self.ids = ids
    offsets = ids.map { _ in 0..<0 }
    spaces = ids.map { _ in (0, 0) }
    typeIDs = ids.map { _ in type }
    isSpecial = ids.map { _ in true }
  }

  /// All of `encodings`, one after another.
  init(joining encodings: [Encoding]) {
    self.init()
    for encoding in encodings {
      ids += encoding.ids
      offsets += encoding.offsets
      typeIDs += encoding.typeIDs
      isSpecial += encoding.isSpecial
    }
  }

  public static func == (left: Encoding, right: Encoding) -> Bool {
    left.ids == right.ids && left.offsets == right.offsets && left.typeIDs == right.typeIDs
      && left.isSpecial == right.isSpecial
  }
}
