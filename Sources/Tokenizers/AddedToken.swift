/// A token that is found in the text itself, before anything else is done to it.
public struct AddedToken: Equatable, Sendable {
  public let id: Int32
  /// How it is written in text.
  public let content: String
  /// Only where no word character stands directly before or behind it.
  public let singleWord: Bool
  /// Takes white space on its left with it.
  public let lstrip: Bool
  /// Takes white space on its right with it.
  public let rstrip: Bool
  /// Looked for in normalized text, itself normalized; otherwise in the text as it is.
  public let normalized: Bool
  /// Left out of decoded text when special tokens are skipped.
  public let special: Bool

  public init(
    id: Int32, content: String, singleWord: Bool = false, lstrip: Bool = false,
    rstrip: Bool = false, normalized: Bool = false, special: Bool = false
  ) {
    self.id = id
    self.content = content
    self.singleWord = singleWord
    self.lstrip = lstrip
    self.rstrip = rstrip
    self.normalized = normalized
    self.special = special
  }
}
