import JSON
import NeuralNetworks
import Torch

/// How A and B of a linear layer start: a value of `init_lora_weights`.
///
/// A start is one file in `Starts` and one line in ``catalogue``. Embeddings always start plainly, as in PEFT.
public struct LoRAInitialization: Sendable, Hashable {
  /// What stands in `adapter_config.json`.
  public let value: JSONValue
  /// Whether the start waits for training data.
  let needsData: Bool
  /// Whether what it makes is reconstructed from the base when an adapter is loaded, so that files hold A and B alone.
  package let changesBase: Bool
  private let factors: @Sendable (LoRATarget) throws -> LoRAStart

  init(
    _ value: JSONValue, needsData: Bool = false, changesBase: Bool = false,
    factors: @escaping @Sendable (LoRATarget) throws -> LoRAStart
  ) {
    self.value = value
    self.needsData = needsData
    self.changesBase = changesBase
    self.factors = factors
  }

  /// Values of `init_lora_weights` that one start answers to.
  struct Entry: Sendable {
    /// How a user writes it: `"pissa_niter_16"`.
    let example: String
    /// What it does, for the reference.
    let meaning: String
    /// Nil for values that are another start's.
    let make: @Sendable (JSONValue) -> LoRAInitialization?

    init(
      _ example: String, _ meaning: String, make: @escaping @Sendable (JSONValue) -> LoRAInitialization?
    ) {
      self.example = example
      self.meaning = meaning
      self.make = make
    }

    /// A start with one name.
    init(_ start: LoRAInitialization, _ meaning: String) {
      self.init(start.value.serialized(), meaning) { $0.isName(start.value) ? start : nil }
    }
  }

  /// Every start that Graft has.
  static let catalogue: [Entry] = [
    kaimingEntry, gaussianEntry, randomEntry, pissaEntry, oloraEntry, loftQEntry, orthogonalEntry, evaEntry,
  ]

  /// - Throws: ``AdapterError`` naming the starts that there are.
  init(_ fields: AdapterFields) throws {
    let value = fields.values["init_lora_weights"] ?? .null
    if value.isNull {
      self = .kaiming
      return
    }
    guard let start = Self.catalogue.lazy.compactMap({ $0.make(value) }).first else {
      throw fields.invalid(
        "init_lora_weights", remedy: "write " + Self.catalogue.map(\.example).joined(separator: ", "))
    }
    self = start
  }

  /// A and B for `target`; empty ones for a model that has shapes and no values.
  func callAsFunction(_ target: LoRATarget) throws -> LoRAStart {
    guard target.device.kind != .meta else {
      return LoRAStart(
        a: try .empty(target.shapeOfA, device: .meta), b: try .empty(target.shapeOfB, device: .meta),
        base: changesBase ? .withoutProduct : .asItIs)
    }
    return try withoutGradient { try factors(target) }
  }

  public static func == (one: Self, other: Self) -> Bool { one.value == other.value }
  public func hash(into hasher: inout Hasher) { hasher.combine(value) }
}

/// The layer that a start is for.
struct LoRATarget {
  let path: String
  let layer: Linear
  let rank: Int
  /// What B A is multiplied with.
  let scale: Double
  let device: Device
  var loftQ = LoftQConfig()

  var shapeOfA: [Int] { [rank, layer.inFeatures] }
  var shapeOfB: [Int] { [layer.outFeatures, rank] }

  /// The weight `[out, in]` in fp32, in which decompositions are computed.
  func weight() throws -> Tensor { try layer.weight.dense().to(.float32) }

  /// - Throws: ``AdapterError`` when the matrix has no as many directions as the rank.
  func requireRankWithinWeight(_ start: String) throws {
    let most = min(layer.outFeatures, layer.inFeatures)
    guard rank <= most else {
      throw AdapterError(
        "`r` is \(rank) at \(path), and its weight [\(layer.outFeatures), \(layer.inFeatures)] has \(most) directions "
          + "that `\(start)` could start from. Lower r, or give this module its own in rank_pattern.")
    }
  }
}

/// What a start gives.
struct LoRAStart {
  let a: Tensor  // [r, in]
  let b: Tensor  // [out, r]
  var base = Base.asItIs

  /// What becomes of the base's weight while the adapter is at work.
  enum Base {
    case asItIs
    /// It gives up scale · B A, so that the model is unchanged although B A is not zero.
    case withoutProduct
    /// Another stands in its place.
    case replaced(by: any WeightStorage)
  }
}

extension JSONValue {
  /// Whether this is `name`, in any case; a word may stand for a boolean.
  func isName(_ name: JSONValue) -> Bool {
    if self == name { return true }
    let word = name.stringValue ?? name.boolValue.map { $0 ? "true" : "false" }
    return stringValue?.lowercased() == word
  }
}
