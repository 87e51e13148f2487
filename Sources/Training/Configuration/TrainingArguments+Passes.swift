import Adapters
import Models
import NeuralNetworks
import Torch

extension TrainingArguments {
  /// What a pass on the CPU may keep for its backward pass unless the arguments say otherwise: as a share of what the weights take, so
  /// that it is never the larger part of a run, and at least so many bytes.
  private static let passShare = 0.5
  private static let passBytes = 400_000_000

  /// Tokens of a pass on the CPU: fewer would not keep its matrix products busy, and more make them no faster.
  private static let passTokens = 512...1024

  /// The most tokens of one pass.
  ///
  /// - Parameters:
  ///   - model: the base with its adapters, which decide what a token keeps.
  ///   - weightBytes: what the base's weights take.
  ///   - elementSize: bytes of a number in the type that is computed in.
  func maxTokensPerPass(_ model: PEFTModel, on device: Device.Kind, weightBytes: Int, elementSize: Int) throws
    -> Int
  {
    switch maxTokensPerPass {
    case 0?: return .max
    case let limit?: return limit
    case nil:
      guard device == .cpu else { return .max }
      guard let decoder = model.base.backbone as? DecoderModel else { return Self.passTokens.upperBound }
      let token = try DecoderActivations(model.base, decoder, elementSize: elementSize, self)
        .kept(.init(tokens: 1, supervised: 0))
      let bytes = max(Self.passBytes, Int(Self.passShare * Double(weightBytes)))
      return min(max(bytes / max(token, 1), Self.passTokens.lowerBound), Self.passTokens.upperBound)
    }
  }
}
