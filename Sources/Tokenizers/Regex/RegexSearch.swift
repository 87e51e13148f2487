/// One run of a pattern over a text: the backtrack stack, and what is known to fail.
struct RegexSearch {
  private let expression: RegularExpression
  private let text: UnsafeBufferPointer<UInt8>
  private let lower: Int
  private let upper: Int
  private var stack: [Frame] = []
  /// Steps that are left before failures are remembered.
  private var steps: Int
  private var remembers = false
  /// (instruction, position) pairs that lead to no match.
  private var failed: Set<Pair> = []
  /// End of what an atomic group or a lookaround matches at a position; -1 where it does not match.
  private var bodies: [Pair: Int] = [:]

  private struct Pair: Hashable {
    let instruction: Int
    let position: Int
  }

  /// What to try when the current path fails.
  private enum Frame {
    case alternative(Int, position: Int)
    /// A greedy run may give back scalars: any end between `from` and `to`.
    case shorter(Int, from: Int, to: Int)
    /// A lazy run may take one more scalar.
    case longer(Int, set: Int, position: Int)
    /// The second way of a choice comes next; when that fails too, the choice has failed.
    case secondWay(choice: Int, target: Int, position: Int)
    case choiceFailed(Int, position: Int)
  }

  private enum Outcome {
    case matched(Int)
    case failed, outOfSteps
  }

  init(_ expression: RegularExpression, _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) {
    self.expression = expression
    self.text = text
    lower = range.lowerBound
    upper = range.upperBound
    // A pattern of a real tokenizer takes a few steps per byte.
    steps = 64 * range.count + 4096
  }

  /// The leftmost match that starts at `position` or later.
  mutating func firstMatch(from position: Int) -> (start: Int, end: Int)? {
    var start = position
    while true {
      stack.removeAll(keepingCapacity: true)
      switch run(0, start) {
      case .matched(let end): return (start, end)
      case .outOfSteps:
        remembers = true
        continue
      case .failed: break
      }
      if start >= upper { return nil }
      start += UTF8Text.scalar(text, at: start).length
    }
  }

  /// Follows the program from `instruction` to an `accept`. Recurses into bodies of groups only, as
  /// deep as the pattern nests.
  private mutating func run(_ instruction: Int, _ start: Int) -> Outcome {
    let base = stack.count
    var counter = instruction
    var position = start
    while true {
      if !remembers {
        steps -= 1
        if steps < 0 { return .outOfSteps }
      }
      var succeeded = true
      switch expression.program[counter] {
      case .accept:
        stack.removeLast(stack.count - base)
        return .matched(position)

      case .jump(let target):
        counter = target

      case .set(let set):
        if position < upper {
          let (scalar, length) = UTF8Text.scalar(text, at: position)
          succeeded = expression.sets[set].contains(scalar)
          position += length
          counter += 1
        } else {
          succeeded = false
        }

      case .split(let first, let second):
        if remembers {
          succeeded = choose(counter, first, second, position)
        } else {
          stack.append(.alternative(second, position: position))
        }
        counter = first

      case .star(let set, let greed):
        switch greed {
        case .possessive:
          position = endOfRun(set, position)
          counter += 1
        case .greedy:
          if remembers {
            // One scalar a step, so that every length is a pair of its own.
            if let next = matchOne(set, position) {
              succeeded = choose(counter, counter, counter + 1, position)
              if succeeded { position = next }
            } else {
              counter += 1
            }
          } else {
            let end = endOfRun(set, position)
            steps -= end - position
            if end > position { stack.append(.shorter(counter + 1, from: position, to: end)) }
            position = end
            counter += 1
          }
        case .lazy:
          if remembers {
            if let next = matchOne(set, position) {
              succeeded = !failed.contains(Pair(instruction: counter, position: position))
              if succeeded { stack.append(.secondWay(choice: counter, target: next, position: position)) }
            }
          } else {
            stack.append(.longer(counter, set: set, position: position))
          }
          counter += 1
        }

      case .atomic(let next):
        switch body(counter, position) {
        case .outOfSteps: return .outOfSteps
        case .matched(let end): position = end
        case .failed: succeeded = false
        }
        counter = next

      case .look(let distance, let negative, let next):
        var origin: Int? = position
        for _ in 0..<(distance ?? 0) {
          guard let from = origin, from > lower else {
            origin = nil
            break
          }
          origin = UTF8Text.start(text, before: from)
        }
        var found = false
        if let origin {
          switch body(counter, origin) {
          case .outOfSteps: return .outOfSteps
          case .matched: found = true
          case .failed: break
          }
        }
        succeeded = found != negative
        counter = next

      case .assertion(let assertion):
        succeeded = holds(assertion, position)
        counter += 1
      }
      if !succeeded {
        guard let (next, at) = backtrack(base) else { return .failed }
        counter = next
        position = at
      }
    }
  }

  /// Takes the first way of a choice, unless the choice is known to fail.
  private mutating func choose(_ choice: Int, _ first: Int, _ second: Int, _ position: Int) -> Bool {
    if failed.contains(Pair(instruction: choice, position: position)) { return false }
    stack.append(.secondWay(choice: choice, target: second, position: position))
    return true
  }

  /// Where to go on after a failure; nil where no way is left.
  private mutating func backtrack(_ base: Int) -> (Int, Int)? {
    while stack.count > base {
      switch stack.removeLast() {
      case .alternative(let target, let position):
        return (target, position)
      case .shorter(let target, let from, let to):
        let end = UTF8Text.start(text, before: to)
        if end > from { stack.append(.shorter(target, from: from, to: end)) }
        return (target, end)
      case .longer(let star, let set, let position):
        if let next = matchOne(set, position) {
          stack.append(.longer(star, set: set, position: next))
          return (star + 1, next)
        }
      case .secondWay(let choice, let target, let position):
        stack.append(.choiceFailed(choice, position: position))
        if case .star(_, .lazy) = expression.program[choice] {
          // For a lazy run the second way is the same instruction one scalar further.
          return (choice, target)
        }
        return (target, position)
      case .choiceFailed(let choice, let position):
        failed.insert(Pair(instruction: choice, position: position))
      }
    }
    return nil
  }

  /// Matches the body of the group at `group`.
  private mutating func body(_ group: Int, _ position: Int) -> Outcome {
    let pair = Pair(instruction: group, position: position)
    if remembers, let end = bodies[pair] { return end < 0 ? .failed : .matched(end) }
    let outcome = run(group + 1, position)
    if remembers {
      switch outcome {
      case .matched(let end): bodies[pair] = end
      case .failed: bodies[pair] = -1
      case .outOfSteps: break
      }
    }
    return outcome
  }

  private func matchOne(_ set: Int, _ position: Int) -> Int? {
    guard position < upper else { return nil }
    let (scalar, length) = UTF8Text.scalar(text, at: position)
    return expression.sets[set].contains(scalar) ? position + length : nil
  }

  private func endOfRun(_ set: Int, _ position: Int) -> Int {
    var end = position
    while end < upper {
      let (scalar, length) = UTF8Text.scalar(text, at: end)
      guard expression.sets[set].contains(scalar) else { break }
      end += length
    }
    return end
  }

  private func holds(_ assertion: RegexAssertion, _ position: Int) -> Bool {
    switch assertion {
    case .textStart: position == lower
    case .textEnd: position == upper
    case .textEndBeforeNewline:
      position == upper || (position + 1 == upper && text[position] == 10)
    case .lineStart:
      position == lower || (text[position - 1] == 10 && position < upper)
    case .lineEnd: position == upper || text[position] == 10
    case .wordBoundary: isWord(before: position) != isWord(at: position)
    case .notWordBoundary: isWord(before: position) == isWord(at: position)
    }
  }

  private func isWord(at position: Int) -> Bool {
    guard position < upper else { return false }
    let scalar = UTF8Text.scalar(text, at: position).value
    return ScalarProperties.shared[scalar] & ScalarProperties.patternWord != 0
  }

  private func isWord(before position: Int) -> Bool {
    position > lower && isWord(at: UTF8Text.start(text, before: position))
  }
}
