import Models

/// What a model has read of one conversation, kept between its turns.
public final class ReadPrefix {
  let cache: KeyValueCache
  /// The tokens whose keys and values the cache holds.
  var tokens: [Int32] = []
  /// What the cache holds before them.
  private let virtualTokenCount: Int

  /// Nothing read yet by `model`.
  public init(_ model: any CausalLanguageModel) {
    cache = model.makeCache(sequenceCount: 1)
    virtualTokenCount = model.virtualTokens?.count ?? 0
  }

  /// Forgets what `prompt` does not begin with, and returns the tokens of it that remain to be read: at least one.
  func rest(of prompt: [Int32]) -> [Int32] {
    // An error may have ended a pass before the cache counted it, or before the tokens were counted here.
    let read = min(tokens.count, max(0, cache.lengths[0] - virtualTokenCount))
    let shared = zip(tokens.prefix(read), prompt).prefix { $0 == $1 }.count
    let kept = min(shared, prompt.count - 1)
    tokens = Array(tokens[..<kept])
    cache.truncate(to: [kept > 0 ? kept + virtualTokenCount : 0])
    return Array(prompt[kept...])
  }
}
