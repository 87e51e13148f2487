import Foundation
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// A frozen base model and the adapters made for it: PEFT's `PeftModel`.
///
/// ```swift
/// let base = try AutoModelForCausalLM.fromPretrained("SmolLM2-135M")
/// let model = try PEFTModel(base, LoRAConfig(r: 8, loraAlpha: 16, targetModules: ["q_proj", "v_proj"]))
/// model.printTrainableParameters()
/// ```
public final class PEFTModel {
  public let base: any PretrainedModel

  /// One adapter with its settings and the modules trained beside it.
  struct Entry {
    var configuration: any AdapterConfiguration
    let adapter: any Adapter
    let modulesToSave: [any AdapterPart]
    /// Where those modules are.
    let savedPaths: Set<String>
    /// Whether its values are from files or data, beyond what making it gave.
    var isFilled = false

    /// The settings as training has left them.
    var settings: any AdapterConfiguration {
      guard var learned = adapter.configuration else { return configuration }
      learned.common = configuration.common
      return learned
    }
  }

  var entries: OrderedDictionary<String, Entry> = [:]

  /// The adapters at work, in the order in which they were put to work.
  public private(set) var activeAdapters: [String] = []

  /// The adapters whose change is in the weights now.
  public private(set) var mergedAdapters: [String] = []
  private var activeBeforeMerging: [String] = []

  /// The base alone, frozen; adapters are added or loaded.
  public init(_ base: any PretrainedModel) throws {
    self.base = base
    try base.freeze()
  }

  /// Freezes `base` and puts a new adapter on it: PEFT's `get_peft_model`.
  public convenience init(
    _ base: any PretrainedModel, _ configuration: any AdapterConfiguration,
    adapterName: String = "default"
  ) throws {
    try self.init(base)
    try addAdapter(adapterName, configuration)
    try setAdapter(adapterName)
  }

  /// The base as what generates text.
  ///
  /// - Throws: ``ModelError`` for a model that does not.
  public func causalLanguageModel() throws -> any CausalLanguageModel {
    if let model = base as? any CausalLanguageModel { return model }
    throw ModelError(
      "A \(base.typeName) gives texts labels and writes none. Classify with it (`graft classify`), or generate with an adapter "
        + "for CAUSAL_LM.")
  }

  /// The base as what gives texts labels.
  ///
  /// - Throws: ``ModelError`` for a model that does not.
  public func sequenceClassificationModel() throws -> any SequenceClassificationModel {
    if let model = base as? any SequenceClassificationModel { return model }
    throw ModelError(
      "A \(base.typeName) has no head for labels. Load it with AutoModelForSequenceClassification, or train an adapter with "
        + "`task_type: SEQ_CLS` on it first.")
  }

  public var adapterNames: [String] { Array(entries.keys) }

  /// The settings of an adapter; nil when there is none of this name.
  public func configuration(_ name: String) -> (any AdapterConfiguration)? {
    entries[name].map { $0.settings }
  }

  /// Whether an adapter is the model's own parameters, trained: it is saved as a model.
  public func isWholeModel(_ name: String) throws -> Bool { try entry(name).adapter.isWholeModel }

  /// The modules that an adapter works on.
  public func targets(_ name: String) throws -> [String] { try entry(name).adapter.targets }

  /// Adds a new adapter without putting it to work.
  ///
  /// Settings that do not say which base they are for (`base_model_name_or_path`) get this one's place.
  public func addAdapter(_ name: String, _ configuration: any AdapterConfiguration) throws {
    var configuration = configuration
    if configuration.common.baseModelNameOrPath == nil {
      configuration.common.baseModelNameOrPath = base.configuration.nameOrPath
    }
    try checkTask(configuration.common.taskType)
    if type(of: configuration).method.savesModules { configuration.common.saveHead(of: base.task) }
    try configuration.complete(for: base)
    try PEFTModel.checkName(name)
    guard entries[name] == nil else {
      throw AdapterError("There is an adapter `\(name)` on this model already; choose another name.")
    }
    // What the new adapter copies is the base's own, not what another has put in its place.
    let (before, merged) = (activeAdapters, mergedAdapters)
    guard merged.isEmpty else {
      throw AdapterError("An adapter cannot be added while `\(merged[0])` is merged; unmerge it first.")
    }
    try setAdapters([])
    defer { try? setAdapters(before) }
    entries[name] = try makeEntry(configuration)
  }

  /// Refuses adapters for models with another head. An adapter that says nothing fits every model.
  private func checkTask(_ taskType: String?) throws {
    guard let taskType, let task = ModelTask(rawValue: taskType), task != base.task else { return }
    throw AdapterError(
      "`task_type` of the adapter is \(taskType), and the model is a \(base.typeName), which is for \(base.task.taskType). "
        + "Load the base with AutoModel\(task.classSuffix), or set `task_type: \(base.task.taskType)`.")
  }

  private func makeEntry(_ configuration: any AdapterConfiguration) throws -> Entry {
    let adapter = try configuration.makeAdapter(for: base)
    adapter.isTraining = isTraining
    let (replacements, saved) = try modulesToSave(configuration, beside: adapter)
    return Entry(
      configuration: configuration, adapter: adapter, modulesToSave: replacements, savedPaths: saved)
  }

  /// Makes an adapter anew from other settings, in its place among the others. No adapter may be at work.
  func replaceAdapter(_ name: String, by configuration: any AdapterConfiguration) throws {
    precondition(activeAdapters.isEmpty && mergedAdapters.isEmpty)
    entries[name] = try makeEntry(configuration)
  }

  private static func checkName(_ name: String) throws {
    // The name becomes a folder.
    guard !name.isEmpty, name.utf8.count <= 200,
      name.unicodeScalars.allSatisfy({
        !"/\\.".unicodeScalars.contains($0) && $0.properties.generalCategory != .control
      })
    else {
      throw AdapterError(
        "\(name.debugDescription) cannot be the name of an adapter; use letters, digits, - and _, 200 at most."
      )
    }
  }

  private func modulesToSave(_ configuration: any AdapterConfiguration, beside adapter: any Adapter) throws
    -> (replacements: [any AdapterPart], paths: Set<String>)
  {
    guard let names = configuration.common.modulesToSave else { return ([], []) }
    let targeted = Set(adapter.targets)
    let staysTied = configuration.common.ensureWeightTying && base.tiesEmbeddings
    var found: Set<String> = []
    var replacements: [any AdapterPart] = []
    var tiedHead: String?
    for (path, module) in base.namedModules() where !path.isEmpty {
      guard names.contains(where: { path.hasSuffix($0) }), !targeted.contains(path),
        // A module within one that is saved is saved with it.
        !found.contains(where: { path.hasPrefix($0 + ".") })
      else { continue }
      found.insert(path)
      if staysTied, module === base.inputEmbedding || module === base.head {
        tiedHead = base.namedModules().first { $0.module === base.head }?.path
        continue
      }
      for (key, place) in base.places(below: path) {
        replacements.append(try ParameterReplacement(key: key, place: place))
      }
    }
    // Names of heads stand for whichever the model has.
    let heads = base.task == .causalLM ? [] : base.task.headNames
    for name in names where !heads.contains(name) && !found.contains(where: { $0.hasSuffix(name) }) {
      throw AdapterError(
        "`modules_to_save` names `\(name)`, and this \(base.typeName) has no such module; `graft inspect` prints all names."
      )
    }
    return (try replacements + (tiedHead.map(tiedEmbeddings) ?? []), found)
  }

  /// One trained table for both ends of the model.
  private func tiedEmbeddings(head: String) throws -> [any AdapterPart] {
    let table = base.inputEmbedding
    let path = base.namedModules().first { $0.module === table }!.path
    let replacement = try ParameterReplacement(key: "\(path).weight", place: .table(table))
    let value = replacement.replacement
    return [
      replacement,
      TiedHeadPart(
        path: head, head: base.head, table: table, change: nil,
        copies: [("weight", value.shape, { try value.value.detached() })]),
    ]
  }

  func entry(_ name: String) throws -> Entry {
    guard let entry = entries[name] else {
      let known = entries.isEmpty ? "it has none" : "it has \(entries.keys.joined(separator: ", "))"
      throw AdapterError("There is no adapter `\(name)` on this model; \(known).")
    }
    return entry
  }

  // MARK: Switching

  /// Puts exactly this adapter to work.
  public func setAdapter(_ name: String) throws { try setAdapters([name]) }

  /// Puts exactly these adapters to work; what they add is summed. None is the base alone.
  ///
  /// - Throws: ``AdapterError``; the adapters that were at work then still are.
  public func setAdapters(_ names: [String]) throws {
    try check(names)
    guard names.isEmpty || mergedAdapters.isEmpty else {
      throw AdapterError(
        "The adapter `\(mergedAdapters[0])` is merged into the weights; unmerge it before switching.")
    }
    let before = activeAdapters
    try deactivateAll()
    do {
      try activate(names)
    } catch {
      try deactivateAll()
      try activate(before)
      throw error
    }
  }

  /// Each name must be an adapter's, and stand once.
  private func check(_ names: [String]) throws {
    for name in names { _ = try entry(name) }
    if let twice = names.first(where: { name in names.count(where: { $0 == name }) > 1 }) {
      throw AdapterError("The adapter `\(twice)` is named twice; an adapter works once.")
    }
  }

  private func activate(_ names: [String]) throws {
    for name in names {
      let entry = try entry(name)
      activeAdapters.append(name)
      try entry.adapter.activate()
      for replacement in entry.modulesToSave { try replacement.insert() }
    }
  }

  private func deactivateAll() throws {
    while let name = activeAdapters.last {
      let entry = try entry(name)
      for replacement in entry.modulesToSave.reversed() { replacement.remove() }
      try entry.adapter.deactivate()
      activeAdapters.removeLast()
    }
  }

  /// Runs `body` on the base alone.
  public func withAdaptersDisabled<Result>(_ body: () throws -> Result) throws -> Result {
    let before = activeAdapters
    try setAdapters([])
    let result = Swift.Result { try body() }
    try setAdapters(before)
    return try result.get()
  }

  /// Whether dropout is in effect.
  public var isTraining = false {
    didSet {
      for entry in entries.values { entry.adapter.isTraining = isTraining }
    }
  }

  // MARK: Training

  /// What the active adapters need beyond their files to go on training, under names that begin with the adapter's.
  public var trainingState: [AdapterTensor] {
    activeAdapters.flatMap { name in
      entries[name]!.adapter.trainingState.map {
        AdapterTensor(
          name: "\(name).\($0.name)", shape: $0.shape, isRequired: $0.isRequired, value: $0.value,
          load: $0.load)
      }
    }
  }

  /// Tells the active adapters that a run of `totalSteps` optimizer steps begins or goes on.
  public func prepareTraining(totalSteps: Int) throws {
    for name in activeAdapters { try entry(name).adapter.prepareTraining(totalSteps: totalSteps) }
  }

  /// What the active adapters add to the mean loss of a step; nil when nothing.
  public func penalty() throws -> Tensor? {
    try activeAdapters.reduce(nil) { sum, name in
      guard let term = try entry(name).adapter.penalty() else { return sum }
      return try sum.map { try $0 + term } ?? term
    }
  }

  /// Tells the active adapters that optimizer step `step` has been done; the parameters still have its gradients.
  public func didStep(_ step: Int) throws {
    for name in activeAdapters { try entry(name).adapter.didStep(step) }
  }

  /// Removes an adapter and its parameters.
  public func deleteAdapter(_ name: String) throws {
    _ = try entry(name)
    guard !mergedAdapters.contains(name) else {
      throw AdapterError("The adapter `\(name)` is merged into the weights; unmerge it before it is deleted.")
    }
    try setAdapters(activeAdapters.filter { $0 != name })
    entries[name] = nil
  }

  // MARK: Parameters

  /// What training changes: the parameters of the active adapters, under the names of their files.
  public var trainableParameters: [(key: String, parameter: Parameter)] {
    activeAdapters.flatMap { name in
      parameters(entries[name]!).map { (activeAdapters.count > 1 ? "\(name).\($0)" : $0, $1) }
    }
  }

  func parameters(_ entry: Entry) -> [(key: String, parameter: Parameter)] {
    entry.adapter.parameters + entry.modulesToSave.flatMap(\.parameters)
  }

  /// Trainable elements, and all of them with the adapters'.
  public var parameterCounts: (trainable: Int, all: Int) {
    let trainable = trainableParameters.reduce(0) { $0 + $1.parameter.count }
    let added = entries.values.reduce(0) { sum, entry in
      sum + parameters(entry).reduce(0) { $0 + $1.parameter.count } - entry.adapter.replacedCount
        + entry.adapter.frozenCount
    }
    let active = activeAdapters
    try? setAdapters([])
    let own = base.parameterCount
    try? setAdapters(active)
    return (trainable, own + added)
  }

  /// `trainable params: 1,081,344 || all params: 495,114,112 || trainable%: 0.2184`
  public var trainableParametersLine: String {
    let (trainable, all) = parameterCounts
    let percent = all == 0 ? 0 : 100 * Double(trainable) / Double(all)
    return "trainable params: \(trainable.grouped) || all params: \(all.grouped) || "
      + "trainable%: \(String(format: "%.4f", percent))"
  }

  public func printTrainableParameters() { print(trainableParametersLine) }

  // MARK: Merging

  /// Computes adapters into the weights; ``unmergeAdapter()`` restores them bit for bit.
  ///
  /// - Parameter names: those to merge; nil is the active ones. No adapter is active afterwards.
  /// - Throws: ``AdapterError`` when a method or a layer cannot be merged; nothing is changed then.
  public func mergeAdapter(_ names: [String]? = nil) throws {
    guard mergedAdapters.isEmpty else {
      throw AdapterError("The adapter `\(mergedAdapters[0])` is merged already; unmerge it first.")
    }
    let names = names ?? activeAdapters
    try check(names)
    try checkOrder(ofMerging: names)
    activeBeforeMerging = activeAdapters
    try setAdapters([])
    do {
      for name in names {
        let entry = try entry(name)
        mergedAdapters.append(name)
        try entry.adapter.merge()
        for replacement in entry.modulesToSave { try replacement.merge() }
      }
    } catch {
      try unmergeAdapter()
      throw error
    }
  }

  /// While it is active, an adapter that puts another weight in the base's place does so beneath all others. Merged after one that
  /// turns or scales the weight, it would not.
  private func checkOrder(ofMerging names: [String]) throws {
    for (index, name) in names.enumerated() where try entry(name).adapter.substitutesWeights {
      guard let other = try names[..<index].first(where: { !(try entry($0).configuration is LoRAConfig) })
      else { continue }
      throw AdapterError(
        "The adapter `\(name)` stands on a base of its own making (LoftQ), which cannot be merged after `\(other)`. Name \(name) first."
      )
    }
  }

  /// Puts the weights back as they were before merging, and to work the adapters that were.
  public func unmergeAdapter() throws {
    while let name = mergedAdapters.last {
      let entry = try entry(name)
      for replacement in entry.modulesToSave.reversed() { replacement.unmerge() }
      try entry.adapter.unmerge()
      mergedAdapters.removeLast()
    }
    let active = activeBeforeMerging
    activeBeforeMerging = []
    if !active.isEmpty { try setAdapters(active) }
  }

  /// The base with the active adapters in its weights for good; this model has none afterwards.
  public func mergeAndUnload() throws -> any PretrainedModel {
    if mergedAdapters.isEmpty { try mergeAdapter() }
    mergedAdapters = []
    activeBeforeMerging = []
    entries = [:]
    return base
  }
}
