import OrderedCollections
import Torch

/// Makes one adapter of several of LoRA, or of (IA)³: PEFT's `add_weighted_adapter`.
///
/// It works on the adapters alone; no base model is needed.
public struct AdapterCombination: Sendable {
  /// Nil is the method's usual one: `svd` for LoRA, and for (IA)³ `linear`, which is all that it has.
  public var type: CombinationType?
  /// One for each adapter; below zero takes its effect away.
  public var weights: [Double]
  /// The rank after a decomposition; nil is the largest of the adapters'.
  public var svdRank: Int?
  /// The quantile of the decomposition's entries at which they are cut off; nil cuts nothing.
  public var svdClamp: Double?
  /// The share of entries that stay, for the types that prune.
  public var density: Double?
  public var majoritySign: MajoritySign
  /// For what DARE drops.
  public var seed: UInt64

  public init(
    _ type: CombinationType? = nil, weights: [Double], svdRank: Int? = nil, svdClamp: Double? = nil,
    density: Double? = nil, majoritySign: MajoritySign = .total, seed: UInt64 = 42
  ) {
    self.type = type
    self.weights = weights
    self.svdRank = svdRank
    self.svdClamp = svdClamp
    self.density = density
    self.majoritySign = majoritySign
    self.seed = seed
  }

  /// - Throws: ``AdapterError`` for options that do not go together.
  func validate(adapterCount: Int) throws {
    guard adapterCount > 0 else { throw AdapterError("There is no adapter to combine; name some.") }
    guard weights.count == adapterCount else {
      throw AdapterError(
        "There are \(weights.count) `weights` for \(adapterCount) adapters; write one for each.")
    }
    guard weights.allSatisfy(\.isFinite) else { throw AdapterError("`weights` must be finite numbers.") }
    if let type, type.prunes {
      guard let density, density > 0, density <= 1 else {
        throw AdapterError(
          "`combination_type: \(type.rawValue)` keeps a share of the entries: write `density` above 0 and at most 1, such as "
            + "0.5.")
      }
    }
    if let svdRank, svdRank < 1 {
      throw AdapterError("`svd_rank` is \(svdRank); write 1 or more.")
    }
    if let svdClamp, !(0...1).contains(svdClamp) {
      throw AdapterError("`svd_clamp` is \(svdClamp); write a quantile from 0 to 1.")
    }
  }

  /// An adapter as its files have it.
  struct Stored {
    /// For messages.
    let name: String
    let configuration: any AdapterConfiguration
    /// Under complete names.
    let tensors: [(name: String, tensor: Tensor)]
  }

  /// - Parameter mask: what DARE keeps, for tests.
  /// - Throws: ``AdapterError`` for adapters that cannot be combined, with the reason.
  func callAsFunction(
    _ adapters: [Stored], mask: ((_ shape: [Int], _ density: Double) throws -> Tensor)? = nil
  ) throws -> (configuration: any AdapterConfiguration, tensors: [(name: String, tensor: Tensor)]) {
    try validate(adapterCount: adapters.count)
    let methods = OrderedSet(adapters.map { Swift.type(of: $0.configuration).method.peftType })
    guard methods.count == 1 else {
      throw AdapterError(
        "The adapters are of the methods \(methods.joined(separator: " and ")), and those of one method alone can be combined. "
          + "Put them to work together, or merge one after the other.")
    }
    switch adapters[0].configuration {
    case is LoRAConfig:
      let combined = try pairs(
        adapters.compactMap { adapter in
          try (adapter.configuration as? LoRAConfig).map {
            (adapter.name, try LoRAPairs(adapter.name, $0, adapter.tensors))
          }
        }, mask: mask)
      return (combined.configuration, combined.tensors)
    case is IA3Config:
      guard type == nil || type == .linear, svdRank == nil, svdClamp == nil, density == nil else {
        throw AdapterError(
          "(IA)³ has vectors and no products: its adapters are summed with their weights, which is `combination_type: linear` "
            + "without other options.")
      }
      let combined = try IA3Vectors(
        adapters.compactMap { adapter in
          try (adapter.configuration as? IA3Config).map {
            (adapter.name, try IA3Vectors($0, adapter.tensors))
          }
        }, weights: weights)
      return (combined.configuration, combined.tensors)
    case let other:
      throw AdapterError(
        "The adapter `\(adapters[0].name)` is of the method \(methods[0]), \(Swift.type(of: other).obstacleToCombining). "
          + "Adapters of LORA and of IA3 can be combined; others are put to work together, or merged one after the other."
      )
    }
  }

  private func pairs(
    _ adapters: [(name: String, pairs: LoRAPairs)],
    mask: ((_ shape: [Int], _ density: Double) throws -> Tensor)?
  ) throws -> LoRAPairs {
    // PEFT's: one adapter alone is scaled.
    let type = adapters.count == 1 ? CombinationType.linear : type ?? .svd
    var arithmetic = TaskArithmetic(type: type, density: density ?? 1, majoritySign: majoritySign)
    if let mask { arithmetic.mask = mask }
    let rank = try rank(of: adapters, type)
    return try withoutGradient {
      try RandomState.withSeed(seed) {
        var combined: OrderedDictionary<String, LoRAPairs.Pair> = [:]
        let paths = OrderedSet(adapters.flatMap(\.pairs.pairs.keys))
        for path in paths {
          let members = zip(adapters, weights).compactMap { adapter, weight in
            adapter.pairs.pairs[path].map { (name: adapter.name, pair: $0, weight: weight) }
          }
          try requireSameLayer(path, members)
          let pairs = members.map { (pair: $0.pair, weight: $0.weight) }
          combined[path] =
            switch type {
            case .cat: try concatenated(pairs)
            case _ where type.decomposes: try decomposed(pairs, arithmetic, rank: rank)
            default: try summed(path, members, arithmetic, type)
            }
        }
        return LoRAPairs(
          try configuration(adapters.map(\.pairs), rank: rank, combined), pairs: combined,
          others: try Self.others(adapters.map { ($0.name, $0.pairs.others) }))
      }
    }
  }

  private typealias Member = (name: String, pair: LoRAPairs.Pair, weight: Double)

  private func requireSameLayer(_ path: String, _ members: [Member]) throws {
    func sizes(_ pair: LoRAPairs.Pair) -> [Int] { [pair.b.size(0), pair.a.size(1)] }
    let first = members[0]
    if let other = members.first(where: {
      sizes($0.pair) != sizes(first.pair) || $0.pair.isEmbedding != first.pair.isEmbedding
    }) {
      throw AdapterError(
        "At \(path) the adapter `\(first.name)` changes a matrix \(sizes(first.pair)) and `\(other.name)` one "
          + "\(sizes(other.pair)): they are for different base models.")
    }
  }

  // MARK: Pairs

  /// √|w s| on both sides, the sign on A: the product has w s.
  private func summed(
    _ path: String, _ members: [Member], _ arithmetic: TaskArithmetic, _ type: CombinationType
  ) throws -> LoRAPairs.Pair {
    if let other = members.first(where: { $0.pair.rank != members[0].pair.rank }) {
      throw AdapterError(
        "At \(path) the ranks of `\(members[0].name)` and `\(other.name)` are \(members[0].pair.rank) and "
          + "\(other.pair.rank), and `\(type.rawValue)` adds their factors. Use `cat`, or a type that ends in svd."
      )
    }
    let factors = members.map { $0.weight * $0.pair.scale }
    var result = members[0].pair
    result.a = try arithmetic.combined(
      members.map(\.pair.a), weights: factors.map { abs($0).squareRoot() * ($0 < 0 ? -1 : 1) })
    result.b = try arithmetic.combined(
      members.map(\.pair.b), weights: factors.map { abs($0).squareRoot() })
    result.scale = 1
    return result
  }

  private func concatenated(_ pairs: [(pair: LoRAPairs.Pair, weight: Double)]) throws -> LoRAPairs.Pair {
    var result = pairs[0].pair
    result.a = try .concatenated(pairs.map { try $0.pair.a * ($0.weight * $0.pair.scale) })
    result.b = try .concatenated(pairs.map(\.pair.b), dimension: 1)
    result.scale = 1
    return result
  }

  private func decomposed(
    _ pairs: [(pair: LoRAPairs.Pair, weight: Double)], _ arithmetic: TaskArithmetic, rank: Int
  ) throws -> LoRAPairs.Pair {
    // Entries are dropped where PEFT has them, and its deltas of embeddings lie as their tables do.
    let isEmbedding = pairs[0].pair.isEmbedding
    let products = try pairs.map { pair, _ in
      let product = try pair.b.matmul(pair.a) * pair.scale
      return try isEmbedding ? product.transposed().contiguous() : product
    }
    let combined = try arithmetic.combined(products, weights: pairs.map(\.weight))
    let (u, s, vt) = try (isEmbedding ? combined.transposed() : combined).singularValueDecomposition()
    let kept = 0..<min(rank, s.count)
    var result = pairs[0].pair
    result.b = try (u.slice(kept, dimension: 1) * s.slice(kept)).contiguous()
    result.a = try vt.slice(kept).contiguous()
    result.scale = 1
    guard let svdClamp else { return result }
    let entries = try Tensor.concatenated([result.b.reshaped(-1), result.a.reshaped(-1)])
    let limit = try abs(entries.quantile(svdClamp))
    result.a = try result.a.clamped(-limit...limit)
    result.b = try result.b.clamped(-limit...limit)
    return result
  }

  // MARK: Settings

  private func rank(of adapters: [(name: String, pairs: LoRAPairs)], _ type: CombinationType) throws -> Int {
    let ranks = adapters.map { adapter in
      adapter.pairs.configuration.rankPattern.values.reduce(adapter.pairs.configuration.r) {
        max($0, Int($1))
      }
    }
    if type == .cat { return ranks.reduce(0, +) }
    if type.decomposes { return svdRank ?? ranks.max()! }
    guard Set(ranks).count == 1 else {
      throw AdapterError(
        "The adapters have the ranks \(ranks.map(String.init).joined(separator: ", ")), and `\(type.rawValue)` adds their "
          + "factors, which must be of one rank. Use `cat`, or a type that ends in svd.")
    }
    return ranks[0]
  }

  /// The first adapter's settings with the modules of all, scales of one, and the rank of each module.
  private func configuration(
    _ adapters: [LoRAPairs], rank: Int, _ combined: OrderedDictionary<String, LoRAPairs.Pair>
  ) throws -> LoRAConfig {
    var result = adapters[0].configuration
    result.r = rank
    result.loraAlpha = Double(rank)
    result.useRSLoRA = false
    result.initLoRAWeights = .kaiming
    result.rankPattern = [:]
    result.alphaPattern = [:]
    for (path, pair) in combined where pair.rank != rank {
      result.rankPattern[path] = Double(pair.rank)
      result.alphaPattern[path] = Double(pair.rank)
    }
    guard adapters.allSatisfy({ $0.configuration.layerReplication == result.layerReplication }) else {
      throw AdapterError("The adapters have different `layer_replication`: they are for different models.")
    }
    result.targets = targets(adapters, paths: Array(combined.keys))
    let saved = OrderedSet(adapters.flatMap { $0.configuration.common.modulesToSave ?? [] })
    result.common.modulesToSave = saved.isEmpty ? nil : Array(saved)
    return result
  }

  /// The union of what the adapters name, or every path where their options cannot be joined.
  private func targets(_ adapters: [LoRAPairs], paths: [String]) -> TargetModules {
    let all = adapters.map(\.configuration.targets)
    if all.allSatisfy({ $0 == all[0] }), all[0].targetModules != nil { return all[0] }
    let names = all.map { targets -> [String]? in
      guard case .names(let names)? = targets.targetModules, targets.excludeModules == nil,
        targets.layersToTransform == nil
      else { return nil }
      return names
    }
    guard names.allSatisfy({ $0 != nil }) else { return TargetModules(targetModules: .names(paths)) }
    return TargetModules(targetModules: .names(Array(OrderedSet(names.flatMap { $0! }))))
  }

  /// What lies beside an adapter's own travels with the combination where one adapter alone has it.
  static func others(_ adapters: [(name: String, tensors: [(name: String, tensor: Tensor)])]) throws -> [(
    name: String, tensor: Tensor
  )] {
    var result: OrderedDictionary<String, (owner: String, tensor: Tensor)> = [:]
    for (name, tensors) in adapters {
      for (stored, tensor) in tensors {
        // Tables of the base, which PEFT stores beside pairs on embeddings, are the same in all.
        if let first = result[stored], !stored.hasSuffix(".base_layer.weight") {
          throw AdapterError(
            "`\(first.owner)` and `\(name)` both train \(stored) in full (`modules_to_save`), and such modules cannot be "
              + "combined.")
        }
        result[stored] = (name, tensor)
      }
    }
    return result.map { ($0.key, $0.value.tensor) }
  }
}

extension Tensor {
  /// The value below which `share` of the elements lie, interpolated between neighbours.
  fileprivate func quantile(_ share: Double) throws -> Double {
    let sorted = try reshaped(-1).sorted().values.doubles()
    let place = share * Double(sorted.count - 1)
    let low = Int(place.rounded(.down))
    let high = Swift.min(low + 1, sorted.count - 1)
    return sorted[low] + (sorted[high] - sorted[low]) * (place - Double(low))
  }
}
