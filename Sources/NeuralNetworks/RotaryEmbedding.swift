import Foundation
import Torch

/// Rotary position embedding: turns pairs of features by an angle that grows with the position (Su et al. 2021,
/// arXiv:2104.09864), with the scalings by which models stretch their context.
public final class RotaryEmbedding: Module {
  /// How the frequencies are stretched beyond the context of pretraining.
  public enum Scaling: Sendable, Hashable {
    case none
    /// All frequencies divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    case linear(factor: Double)
    /// The base grows with the length of the sequence once it exceeds the context ("dynamic NTK").
    case dynamic(factor: Double)
    /// High frequencies kept, low ones interpolated, a ramp between (Peng et al. 2023, arXiv:2309.00071).
    case yarn(YaRN)
    /// Llama 3.1's: as YaRN, with the ramp over wavelengths.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContext: Int)
  }

  public struct YaRN: Sendable, Hashable {
    public var factor: Double
    public var originalContext: Int
    /// Multiplies cosine and sine; 0.1 ln(factor) + 1 in the paper.
    public var attentionFactor: Double
    public var betaFast: Double
    public var betaSlow: Double
    /// Whether the bounds of the ramp are rounded to whole dimensions.
    public var truncatesRange: Bool

    public init(
      factor: Double, originalContext: Int, attentionFactor: Double? = nil, betaFast: Double = 32,
      betaSlow: Double = 1, truncatesRange: Bool = true
    ) {
      self.factor = factor
      self.originalContext = originalContext
      self.attentionFactor = attentionFactor ?? (factor <= 1 ? 1 : 0.1 * log(factor) + 1)
      self.betaFast = betaFast
      self.betaSlow = betaSlow
      self.truncatesRange = truncatesRange
    }
  }

  /// Features per head.
  public let dimension: Int
  /// The wavelength's base, `rope_theta`.
  public let base: Double
  /// `max_position_embeddings`.
  public let context: Int
  public let scaling: Scaling
  private let name: String

  public init(
    dimension: Int, base: Double, context: Int, scaling: Scaling = .none, name: String = "RotaryEmbedding"
  ) {
    self.dimension = dimension
    self.base = base
    self.context = context
    self.scaling = scaling
    self.name = name
  }

  /// Whether a token's angles depend on how long its sequence is.
  public var dependsOnLength: Bool {
    if case .dynamic = scaling { true } else { false }
  }

  /// Cosine and sine for every token of the batch, in fp32: each `[T, dimension]`, the second half repeating the first.
  ///
  /// - Parameter lengths: positions that each sequence has reached, for scalings that depend on it.
  public func callAsFunction(_ layout: RaggedLayout, lengths: [Int]) throws -> RotaryTables {
    let device = layout.positions.device
    let positions = try layout.positions.to(.float32).unsqueezed(1)  // [T, 1]
    let angles: Tensor
    if case .dynamic = scaling, lengths.contains(where: { $0 > context }) {
      angles = try Tensor.concatenated(
        zip(layout.sequences, lengths).map { tokens, length in
          try positions.slice(tokens) * Tensor(inverseFrequencies(length: length), device: device)
        })
    } else {
      angles = try positions * Tensor(inverseFrequencies(length: context), device: device)
    }
    let both = try Tensor.concatenated([angles, angles], dimension: 1)
    var (cos, sin) = (try both.cos(), try both.sin())
    if case .yarn(let yarn) = scaling {
      (cos, sin) = (try cos * yarn.attentionFactor, try sin * yarn.attentionFactor)
    }
    return RotaryTables(cos: cos, sin: sin)
  }

  /// Radians per position of each pair, `[dimension / 2]`, in fp32 as the models were trained.
  func inverseFrequencies(length: Int) -> [Float] {
    func frequencies(base: Double) -> [Float] {
      stride(from: 0, to: dimension, by: 2).map { 1 / powf(Float(base), Float($0) / Float(dimension)) }
    }
    switch scaling {
    case .none:
      return frequencies(base: base)
    case .linear(let factor):
      return frequencies(base: base).map { $0 / Float(factor) }
    case .dynamic(let factor):
      let stretch = factor * Double(max(length, context)) / Double(context) - (factor - 1)
      return frequencies(base: base * pow(stretch, Double(dimension) / Double(dimension - 2)))
    case .yarn(let yarn):
      return interpolated(frequencies(base: base), yarn)
    case .llama3(let factor, let low, let high, let originalContext):
      let original = Double(originalContext)
      return frequencies(base: base).map { frequency in
        let wavelength = 2 * Double.pi / Double(frequency)
        if wavelength < original / high { return frequency }
        if wavelength > original / low { return frequency / Float(factor) }
        let smooth = Float((original / wavelength - low) / (high - low))
        return (1 - smooth) * frequency / Float(factor) + smooth * frequency
      }
    }
  }

  private func interpolated(_ frequencies: [Float], _ yarn: YaRN) -> [Float] {
    func dimensionTurning(_ rotations: Double) -> Double {
      Double(dimension) * log(Double(yarn.originalContext) / (rotations * 2 * .pi)) / (2 * log(base))
    }
    var low = dimensionTurning(yarn.betaFast)
    var high = dimensionTurning(yarn.betaSlow)
    if yarn.truncatesRange { (low, high) = (floor(low), ceil(high)) }
    low = max(low, 0)
    high = min(high, Double(dimension - 1))
    if low == high { high += 0.001 }
    return frequencies.enumerated().map { index, frequency in
      let ramp = Float(Swift.min(Swift.max((Double(index) - low) / (high - low), 0), 1))
      let kept = 1 - ramp
      return frequency / Float(yarn.factor) * (1 - kept) + frequency * kept
    }
  }

  public override var typeName: String { name }
}

/// Cosine and sine of the angle of each token and feature, fp32 `[T, dimension]`.
public struct RotaryTables {
  public let cos: Tensor
  public let sin: Tensor

  public init(cos: Tensor, sin: Tensor) {
    self.cos = cos
    self.sin = sin
  }

  /// x cos + rotateHalf(x) sin, where rotateHalf((a, b)) = (−b, a), for each head of a projection
  /// `[T, heads · dimension]` → `[T, heads, dimension]`.
  ///
  /// `projection` may be overwritten: nothing else may hold on to it.
  public func rotate(_ projection: Tensor, heads: Int) throws -> Tensor {
    try rotate(projection, first: heads).reshaped(-1, heads, cos.size(1))
  }

  /// The same for the first `heads` heads of a projection `[T, columns]`, whose other columns stay as they are.
  public func rotate(_ projection: Tensor, first heads: Int) throws -> Tensor {
    try projection.rotated(cosines: cos, sines: sin, headSize: cos.size(1), heads: heads)
  }
}
