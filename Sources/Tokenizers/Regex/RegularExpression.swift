/// A compiled split pattern.
///
/// It backtracks like Oniguruma, which decides what the reference tokenizer matches, on a stack of its
/// own. When a search takes more steps than a well-behaved pattern needs, it remembers which (instruction,
/// position) pairs have failed: without captures and back-references a pair fails always or never, so
/// the work is bounded by instructions × text length, over all matches in a text together.
struct RegularExpression: Sendable {
  /// One instruction; targets are positions in the program.
  enum Instruction: Sendable {
    case set(Int)
    case jump(Int)
    /// Tries `first`, and where that fails `second`.
    case split(first: Int, second: Int)
    /// Any number of scalars of a set, then the next instruction.
    case star(set: Int, RegexGreed)
    /// Runs the body at `index + 1`, which ends in `accept`, then goes on at `next` for good.
    case atomic(next: Int)
    /// Runs the body at `index + 1` at `distance` scalars before (nil: at) the position.
    case look(distance: Int?, negative: Bool, next: Int)
    case assertion(RegexAssertion)
    case accept
  }

  let program: [Instruction]
  let sets: [ScalarBitmap]

  /// Longest program that is accepted; counted repetition is unrolled and could grow without end.
  private static let maximumInstructions = 20_000

  /// Compiles `pattern`; throws where it is malformed or uses what is not implemented.
  init(_ pattern: String) throws(TokenizerError) {
    var compiler = Compiler()
    compiler.compile(try RegexParser.parse(pattern))
    guard compiler.program.count < Self.maximumInstructions else {
      throw TokenizerError(
        .unsupported,
        "The pattern \(pattern.debugDescription) compiles to more than \(Self.maximumInstructions) "
          + "instructions. Lower the repetition counts in it.")
    }
    program = compiler.program + [.accept]
    sets = compiler.sets.map(ScalarBitmap.init)
  }

  /// A pattern that matches `text` itself.
  init(literal text: String) {
    var compiler = Compiler()
    compiler.compile(.sequence(text.unicodeScalars.map { .set(ScalarSet($0.value)) }))
    program = compiler.program + [.accept]
    sets = compiler.sets.map(ScalarBitmap.init)
  }

  /// Calls `body` with the bounds of every match in `range` of `text`, which is valid UTF-8; what lies
  /// outside the range is not seen. An empty match directly behind a match is passed over.
  func forEachMatch(
    in text: UnsafeBufferPointer<UInt8>, range: Range<Int>, _ body: (Int, Int) -> Void
  ) {
    var search = RegexSearch(self, text, range)
    var position = range.lowerBound
    var lastEnd: Int?
    while position <= range.upperBound {
      guard let (start, end) = search.firstMatch(from: position) else { return }
      if start == end, lastEnd == end {
        if position >= range.upperBound { return }
        position += UTF8Text.scalar(text, at: position).length
        continue
      }
      body(start, end)
      position = end
      lastEnd = end
    }
  }

  /// Translates the tree into instructions.
  private struct Compiler {
    var program: [Instruction] = []
    var sets: [ScalarSet] = []

    mutating func compile(_ node: RegexNode) {
      // The caller refuses programs that are too long; stop growing them here.
      guard program.count < RegularExpression.maximumInstructions else { return }
      switch node {
      case .empty: break
      case .set(let set): program.append(.set(index(of: set)))
      case .sequence(let nodes): for node in nodes { compile(node) }
      case .alternation(let nodes):
        var jumps: [Int] = []
        for (number, node) in nodes.enumerated() {
          guard number + 1 < nodes.count else {
            compile(node)
            break
          }
          let split = reserve()
          compile(node)
          jumps.append(reserve())
          program[split] = .split(first: split + 1, second: program.count)
        }
        for jump in jumps { program[jump] = .jump(program.count) }
      case .repeat(let node, let minimum, let maximum, let greed):
        compileRepeat(node, minimum, maximum, greed)
      case .look(let node, let behind, let negative):
        let look = reserve()
        compile(node)
        program.append(.accept)
        program[look] = .look(
          distance: behind ? node.fixedLength : nil, negative: negative, next: program.count)
      case .atomic(let node):
        let atomic = reserve()
        compile(node)
        program.append(.accept)
        program[atomic] = .atomic(next: program.count)
      case .assertion(let assertion): program.append(.assertion(assertion))
      }
    }

    private mutating func compileRepeat(
      _ node: RegexNode, _ minimum: Int, _ maximum: Int?, _ greed: RegexGreed
    ) {
      if greed == .possessive {
        if minimum <= 1, maximum == nil, case .set(let set) = node {
          if minimum == 1 { compile(node) }
          program.append(.star(set: index(of: set), .possessive))
        } else {
          compile(.atomic(.repeat(node, minimum: minimum, maximum: maximum, .greedy)))
        }
        return
      }
      for _ in 0..<minimum { compile(node) }
      guard let maximum else {
        if case .set(let set) = node {
          program.append(.star(set: index(of: set), greed))
          return
        }
        let split = reserve()
        compile(node)
        program.append(.jump(split))
        program[split] = ordered(split + 1, program.count, greed)
        return
      }
      // x{0,3} is (x(x(x)?)?)?: leaving one leaves all.
      var splits: [Int] = []
      for _ in minimum..<maximum {
        splits.append(reserve())
        compile(node)
      }
      for split in splits { program[split] = ordered(split + 1, program.count, greed) }
    }

    private func ordered(_ body: Int, _ exit: Int, _ greed: RegexGreed) -> Instruction {
      greed == .lazy ? .split(first: exit, second: body) : .split(first: body, second: exit)
    }

    private mutating func reserve() -> Int {
      program.append(.accept)
      return program.count - 1
    }

    private mutating func index(of set: ScalarSet) -> Int {
      if let index = sets.firstIndex(of: set) { return index }
      sets.append(set)
      return sets.count - 1
    }
  }
}
