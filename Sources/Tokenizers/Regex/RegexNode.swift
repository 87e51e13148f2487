/// A parsed pattern.
indirect enum RegexNode {
  case empty
  /// One scalar out of a set.
  case set(ScalarSet)
  case sequence([RegexNode])
  /// The first alternative that leads to a match wins.
  case alternation([RegexNode])
  case `repeat`(RegexNode, minimum: Int, maximum: Int?, RegexGreed)
  /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
  case look(RegexNode, behind: Bool, negative: Bool)
  /// `(?>…)`: the first match of the group is not taken back.
  case atomic(RegexNode)
  case assertion(RegexAssertion)

  /// Whether the node can match without consuming anything.
  var isNullable: Bool {
    switch self {
    case .empty, .look, .assertion: true
    case .set: false
    case .sequence(let nodes): nodes.allSatisfy(\.isNullable)
    case .alternation(let nodes): nodes.contains(where: \.isNullable)
    case .repeat(let node, let minimum, _, _): minimum == 0 || node.isNullable
    case .atomic(let node): node.isNullable
    }
  }

  /// How many scalars every match has, or nil where that varies.
  var fixedLength: Int? {
    switch self {
    case .empty, .look, .assertion: return 0
    case .set: return 1
    case .sequence(let nodes):
      var sum = 0
      for node in nodes {
        guard let length = node.fixedLength else { return nil }
        sum += length
      }
      return sum
    case .alternation(let nodes):
      guard let length = nodes.first?.fixedLength else { return nil }
      return nodes.allSatisfy { $0.fixedLength == length } ? length : nil
    case .repeat(let node, let minimum, let maximum, _):
      guard minimum == maximum, let length = node.fixedLength else { return nil }
      return length * minimum
    case .atomic(let node): return node.fixedLength
    }
  }
}

enum RegexGreed: Sendable { case greedy, lazy, possessive }

enum RegexAssertion: Sendable {
  case lineStart, lineEnd, textStart, textEnd, textEndBeforeNewline, wordBoundary, notWordBoundary
}
