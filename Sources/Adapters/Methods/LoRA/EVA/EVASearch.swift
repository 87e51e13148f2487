import Foundation
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// What EVA reads: sequences, and which of their tokens count.
public struct DataBatch {
  public let input: ModelInput
  /// Positions in the flat tokens that carry loss.
  public let supervised: [Int]

  public init(input: ModelInput, supervised: [Int]) {
    self.input = input
    self.supervised = supervised
  }
}

/// EVA's search for the directions in which each layer's inputs vary most, and for the ranks that they deserve (Paischer et al.
/// 2024, arXiv:2410.07170, algorithm 1), step for step as PEFT's `initialize_lora_eva_weights`.
final class EVASearch {
  private struct Target {
    let path: String
    let layer: Linear
    let rank: Int
  }

  private let configuration: EVAConfig
  private let targets: [Target]
  /// Layers that read the same input have one search.
  private var searches: [Search] = []
  /// By target: which search is its.
  private var searchOf: [Int] = []
  private var ranks: [Int]
  private let budget: Int

  private struct Search {
    let layer: Linear
    var pca: IncrementalPCA
    var converged: [Bool]
    var isRunning = true
  }

  /// - Parameter layers: with the rank that the settings give each.
  init(_ configuration: EVAConfig, layers: [(path: String, layer: Linear, rank: Int)]) {
    self.configuration = configuration
    targets = layers.map { Target(path: $0.path, layer: $0.layer, rank: $0.rank) }
    budget = layers.reduce(0) { $0 + $1.rank }
    ranks = layers.map(\.rank)
  }

  /// The directions `[rank, in]` of each layer, by path; none for layers that explain too little to get a rank.
  ///
  /// - Parameter batch: the batch of a number, again from the first when the data are through.
  func run(over batchCount: Int, _ batch: (Int) throws -> DataBatch, model: any PretrainedModel) throws
    -> OrderedDictionary<String, Tensor>
  {
    try group(batch(0), model)
    var number = 0
    while searches.contains(where: \.isRunning) {
      guard number < 1000 + 10 * batchCount else {
        throw AdapterError(
          "EVA's directions have not converged after \(number) batches; write a lower `tau` than \(configuration.tau) or a lower "
            + "`rho` in eva_config.")
      }
      try read(batch(number % batchCount), model)
      number += 1
      if searches.allSatisfy({ $0.pca.components != nil }) {
        ranks = distributedRanks()
      } else if number == batchCount, searches.allSatisfy({ $0.pca.components == nil }) {
        throw AdapterError(
          "EVA needs batches of more tokens than directions (\(searches.map(\.pca.componentCount).max() ?? 0)), and none has them. "
            + "Write larger batches, a lower `r` or `rho`, or use_label_mask: false in eva_config.")
      }
      updateRunning()
    }
    return try directions()
  }

  /// Finds out which layers read the same input, by looking at what the first batch gives them.
  private func group(_ batch: DataBatch, _ model: any PretrainedModel) throws {
    let inputs = try capture(batch, model, at: targets.map(\.layer))
    var first: [ObjectIdentifier: Int] = [:]
    for target in targets {
      guard let input = inputs[ObjectIdentifier(target.layer)] else {
        throw AdapterError("EVA: the model never reads \(target.path); leave it out of target_modules.")
      }
      let count = Int((Double(target.rank) * configuration.rho).rounded(.toNearestOrEven))
      if let known = first[ObjectIdentifier(input)] {
        searchOf.append(known)
        if searches[known].pca.componentCount < count { searches[known] = try search(target, count) }
      } else {
        first[ObjectIdentifier(input)] = searches.count
        searchOf.append(searches.count)
        searches.append(try search(target, count))
      }
    }
    ranks = searchOf.map { searches[$0].pca.componentCount }
  }

  private func search(_ target: Target, _ count: Int) throws -> Search {
    guard count <= target.layer.inFeatures else {
      throw AdapterError(
        "EVA looks for \(count) directions (`r` · `rho`) at \(target.path), whose input has \(target.layer.inFeatures) features. Lower "
          + "`r`, or `rho` in eva_config.")
    }
    return Search(
      layer: target.layer, pca: IncrementalPCA(componentCount: count),
      converged: Array(repeating: false, count: count))
  }

  private func read(_ batch: DataBatch, _ model: any PretrainedModel) throws {
    let running = searches.indices.filter { searches[$0].isRunning }
    let inputs = try capture(batch, model, at: running.map { searches[$0].layer })
    let rows = configuration.useLabelMask ? batch.supervised : Array(0..<batch.input.layout.tokenCount)
    let picked = try Tensor(rows.map(Int64.init), device: model.device)
    for index in running {
      guard rows.count >= searches[index].pca.componentCount,
        let input = inputs[ObjectIdentifier(searches[index].layer)]
      else { continue }
      let before = searches[index].pca.components
      try searches[index].pca.fit(input.selecting(picked).to(.float32))
      guard let before, let now = searches[index].pca.components else { continue }
      let (one, other) = (try before.to(.float64), try now.to(.float64))
      let norms = try one.norm(1) * other.norm(1)
      searches[index].converged = try ((one * other).sum(1) / norms).doubles().map { $0 >= configuration.tau }
    }
  }

  /// Runs the model and keeps what the layers read.
  private func capture(_ batch: DataBatch, _ model: any PretrainedModel, at layers: [Linear]) throws
    -> [ObjectIdentifier: Tensor]
  {
    let probes = layers.map { InputProbe($0) }
    defer { for probe in probes { probe.remove() } }
    try withoutGradient {
      let states = try model.hiddenStates(batch.input)
      if layers.contains(where: { $0 === model.head }) { _ = try model.head(states) }
    }
    return probes.reduce(into: [:]) { $0[ObjectIdentifier($1.layer)] = $1.input }
  }

  /// The directions that explain most, over all layers, until the ranks are spent.
  private func distributedRanks() -> [Int] {
    // Targets with a search of their own first, as PEFT lists them: who is first wins a tie.
    let owners = searches.indices.map { search in searchOf.firstIndex(of: search)! }
    let order = owners + targets.indices.filter { !owners.contains($0) }
    let shares = order.flatMap { target in
      searches[searchOf[target]].pca.explainedVarianceRatio.map { (target, $0) }
    }
    let best = shares.enumerated().sorted { ($0.element.1, $1.offset) > ($1.element.1, $0.offset) }.prefix(
      budget)
    var counts = Array(repeating: 0, count: targets.count)
    for (_, share) in best { counts[share.0] += 1 }
    for (search, owner) in owners.enumerated() {
      for target in targets.indices where searchOf[target] == search && counts[target] > counts[owner] {
        counts.swapAt(target, owner)
      }
    }
    return counts
  }

  private func updateRunning() {
    for index in searches.indices {
      // PEFT asks for the owner's rank, the largest of those that share.
      let owner = searchOf.firstIndex(of: index)!
      searches[index].isRunning = !searches[index].converged.prefix(ranks[owner]).allSatisfy { $0 }
    }
  }

  private func directions() throws -> OrderedDictionary<String, Tensor> {
    var result: OrderedDictionary<String, Tensor> = [:]
    for (index, target) in targets.enumerated() {
      let pca = searches[searchOf[index]].pca
      guard ranks[index] > 0, let components = pca.components, let values = pca.singularValues else {
        continue
      }
      let kept = try components.slice(0..<ranks[index])
      result[target.path] =
        configuration.whiten
        ? try kept / values.slice(0..<ranks[index]).squareRoot().unsqueezed(1) : kept
    }
    return result
  }
}

/// Keeps what a layer reads.
private final class InputProbe: LinearAdapter {
  let layer: Linear
  private(set) var input: Tensor?

  init(_ layer: Linear) {
    self.layer = layer
    layer.adapters.append(self)
  }

  func remove() { layer.adapters.removeAll { $0 === self } }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    self.input = input
    return try next(input)
  }
}

extension PEFTModel {
  /// The active adapter that waits for data to start from; nil when none does.
  public var adapterAwaitingData: String? {
    activeAdapters.first { name in
      entries[name].map {
        !$0.isFilled && ($0.configuration as? LoRAConfig)?.initLoRAWeights.needsData == true
      } ?? false
    }
  }

  /// Starts the adapter that waits for it from training data: EVA's directions and ranks. Its parameters are others afterwards.
  ///
  /// - Parameters:
  ///   - batchCount: batches that there are.
  ///   - batch: gives one of them by its number.
  /// - Throws: ``AdapterError`` when the data do not do.
  public func initializeFromData(batchCount: Int, _ batch: (Int) throws -> DataBatch) throws {
    guard let name = adapterAwaitingData, var configuration = entries[name]?.configuration as? LoRAConfig,
      let adapter = entries[name]?.adapter as? ComposedAdapter
    else { return }
    guard batchCount > 0 else { throw AdapterError("EVA needs training data, and there is no batch.") }
    let linears = adapter.parts.compactMap { $0 as? LinearPart }
    let active = activeAdapters
    try setAdapters([])
    defer { try? setAdapters(active) }
    // Layers that are the adapter's own are read as it will have them.
    let replication = adapter.parts.compactMap { $0 as? LayerReplicationPart }
    let settings = configuration.evaConfig ?? EVAConfig()
    let search = EVASearch(
      settings, layers: try linears.map { ($0.path, $0.layer, try configuration.rank($0.path)) })
    for part in replication { part.insert() }
    let found = Result { try search.run(over: batchCount, batch, model: base) }
    for part in replication { part.remove() }
    let directions = try found.get()

    var (ranks, alphas): (OrderedDictionary<String, Double>, OrderedDictionary<String, Double>) = ([:], [:])
    for (path, rows) in directions {
      let (rank, wanted) = (Double(rows.size(0)), Double(try configuration.rank(path)))
      var alpha = try configuration.alpha(path)
      if settings.adjustScalingFactors { alpha *= rank / wanted }
      if rank != Double(configuration.r) { ranks[path] = rank }
      if alpha != configuration.loraAlpha { alphas[path] = alpha }
    }
    let without = Set(linears.map(\.path)).subtracting(directions.keys)
    if !without.isEmpty {
      configuration.targets = TargetModules(
        targetModules: .names(adapter.targets.filter { !without.contains($0) }))
    }
    (configuration.rankPattern, configuration.alphaPattern) = (ranks, alphas)
    try replaceAdapter(name, by: configuration)
    for case let part as LinearPart in (entries[name]?.adapter as? ComposedAdapter)?.parts ?? [] {
      let lora = part.change as? LoRALinear ?? (part.change as? DoRALinear)?.lora
      try lora?.a.value.copyInPlace(directions[part.path]!.to(.float32, device: base.device))
    }
    entries[name]?.isFilled = true
  }

  /// Gives the adapter that waits for data the modules, ranks and scales that the data gave the one in `directory`; its values are
  /// still to be loaded.
  public func takeShape(from directory: URL) throws {
    guard let name = adapterAwaitingData, var configuration = entries[name]?.configuration as? LoRAConfig
    else { return }
    let folder = name == "default" ? directory : directory.appendingPathComponent(name)
    guard let learned = try PEFTModel.readConfiguration(folder) as? LoRAConfig else { return }
    (configuration.rankPattern, configuration.alphaPattern) = (learned.rankPattern, learned.alphaPattern)
    let modules = Set(try targets(name))
    if case .names(let names)? = learned.targets.targetModules, Set(names).isSubset(of: modules) {
      configuration.targets = learned.targets
    }
    let active = activeAdapters
    try setAdapters([])
    defer { try? setAdapters(active) }
    try replaceAdapter(name, by: configuration)
    entries[name]?.isFilled = true
  }
}
