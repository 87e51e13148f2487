/// Examples by index: in memory (``ExampleList``) or in a mapped file (``TokenCache``).
public protocol ExampleSource: Sendable {
  /// The length of each example in tokens.
  var lengths: [Int32] { get }
  /// - Throws: ``DataError`` when the example cannot be read.
  func example(at index: Int) throws -> Example
}

/// Examples held in memory.
public struct ExampleList: ExampleSource {
  public let examples: [Example]

  public init(_ examples: [Example]) { self.examples = examples }

  public var lengths: [Int32] { examples.map { Int32($0.count) } }
  public func example(at index: Int) throws -> Example { examples[index] }
}
