import Torch

/// Divides the scores: a temperature below 1 makes likely tokens likelier, one above 1 evens them out.
public struct Temperature: LogitsProcessor {
  public let temperature: Double

  public init(_ temperature: Double) {
    self.temperature = temperature
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    try scores / temperature
  }
}
