/// What became of the rows of a data file. Show it to the user before the first step.
public struct EncodingReport: Sendable, Codable, Hashable, CustomStringConvertible {
  public var rows = 0
  public var examples = 0
  public var tokens = 0
  public var supervisedTokens = 0
  public var longest = 0
  /// Examples that were cut to max_length.
  public var truncated = 0
  /// Rows that were dropped because they were longer.
  public var droppedTooLong = 0
  /// Rows that were dropped because no token of them carries loss.
  public var droppedUnsupervised = 0
  /// Of those, rows whose supervised part lies behind max_length.
  public var unsupervisedByTruncation = 0

  public init() {}

  mutating func count(_ outcome: ExampleEncoder.Outcome) -> Example? {
    rows += 1
    switch outcome {
    case .example(let example, let fullLength):
      examples += 1
      tokens += example.count
      supervisedTokens += example.supervisedTokens
      longest = max(longest, example.count)
      if fullLength > example.count { truncated += 1 }
      return example
    case .tooLong:
      droppedTooLong += 1
    case .unsupervised(let byTruncation):
      droppedUnsupervised += 1
      if byTruncation { unsupervisedByTruncation += 1 }
    }
    return nil
  }

  /// - Throws: ``DataError`` when nothing is left to train on.
  func check(_ path: String) throws {
    guard examples == 0 else { return }
    if rows == 0 {
      throw DataError(
        "the file holds no rows", at: .init(file: path), remedy: "Check that it is the right one")
    }
    let remedy =
      unsupervisedByTruncation > 0 || droppedTooLong > 0
      ? "Raise max_length, or keep the end of long rows (truncation_mode: keep_end)"
      : "Check that the answers are not empty and that the row format is the right one"
        + " (`graft inspect MODEL --supervision FILE` shows it token by token)"
    throw DataError(
      "none of the \(rows) rows can be trained on: \(droppedUnsupervised) have no supervised token"
        + " (\(unsupervisedByTruncation) because of max_length), \(droppedTooLong) are too long",
      at: .init(file: path), remedy: remedy)
  }

  public var description: String {
    var text =
      "\(examples) examples, \(tokens) tokens, \(supervisedTokens) of them supervised, longest \(longest)"
    if truncated > 0 { text += "; \(truncated) truncated to max_length" }
    if droppedTooLong > 0 { text += "; \(droppedTooLong) dropped as too long" }
    if droppedUnsupervised > 0 {
      text += "; \(droppedUnsupervised) dropped without a supervised token"
      if unsupervisedByTruncation > 0 { text += " (\(unsupervisedByTruncation) because of max_length)" }
    }
    return text
  }
}
