import Adapters
import Datasets
import Foundation
import JSON
import Models

/// Everything that a training run is made of, as the YAML file of `graft train` holds it.
///
/// The file is flat: keys of the model, the data, the adapter and the training stand side by side, with the names that
/// transformers, PEFT and TRL users know. Adapter keys are those of the method that `peft_method` names, which is why
/// they stay a JSON object here: the method's own configuration type decodes it.
///
/// ```yaml
/// model_name_or_path: Qwen2.5-0.5B
/// train_file: train.json
/// peft_method: lora
/// r: 8
/// learning_rate: 2e-4
/// ```
public struct RunConfiguration: Sendable, Hashable {
  public var model: ModelArguments
  public var data: DataArguments
  public var training: TrainingArguments
  /// A `method` of the catalogue.
  public var adapterMethod: String
  /// The adapter's configuration with PEFT's names, complete, `peft_type` included.
  public var adapter: JSONValue

  /// Reads a configuration file and checks it.
  ///
  /// - Parameters:
  ///   - path: the YAML file.
  ///   - overrides: `key=value` texts that win over the file; `lr_scheduler_kwargs.num_cycles=2` sets one entry of a
  ///     mapping. Values are YAML.
  ///   - methods: the adapter methods there are.
  /// - Throws: `ConfigurationError` about the first thing that is wrong, with its line.
  public init(
    contentsOf path: String, overrides: [String] = [], methods: [AdapterMethod] = AdapterMethod.catalogue
  ) throws {
    try self.init(yaml: Self.text(of: path), name: path, overrides: overrides, methods: methods)
  }

  /// Reads a configuration from YAML text.
  ///
  /// - Parameter name: the name by which errors call the text.
  public init(
    yaml: String, name: String, overrides: [String] = [], methods: [AdapterMethod] = AdapterMethod.catalogue
  ) throws {
    var entries = try Self.entries(of: yaml, name: name)
    for override in overrides { try Self.apply(override, to: &entries) }
    var locations: [String: ConfigurationLocation] = [:]
    for entry in entries { locations[entry.key] = entry.value.location }
    do {
      try self.init(entries, methods: methods)
      try validate(methods: methods)
    } catch var error as ConfigurationError where error.location == nil {
      // A check of values knows the key; the line is known here.
      error.location = error.key.flatMap { locations[$0] } ?? .file(name, line: 0)
      throw error
    }
  }

  /// A configuration made in a program; its adapter object may leave defaults out.
  public init(
    model: ModelArguments, data: DataArguments, training: TrainingArguments, adapterMethod: String = "lora",
    adapter: JSONValue = [:], methods: [AdapterMethod] = AdapterMethod.catalogue
  ) throws {
    self.model = model
    self.data = data
    self.training = training
    self.adapterMethod = adapterMethod
    let method = try Self.method(named: adapterMethod, at: nil, among: methods)
    let given = ConfigurationNode(adapter)
    guard case .mapping(let entries) = given.content else {
      throw ConfigurationError(
        "the adapter's configuration is \(adapter.kind)", remedy: "give an object of its fields")
    }
    self.adapter = try Self.resolve(entries.filter { $0.key != "peft_type" }, for: method)
  }

  private init(_ entries: [ConfigurationNode.Entry], methods: [AdapterMethod]) throws {
    model = ModelArguments()
    data = DataArguments()
    training = TrainingArguments()
    adapterMethod = "lora"
    var methodLocation: ConfigurationLocation?
    if let entry = entries.first(where: { $0.key == Self.methodKey }) {
      adapterMethod = try String(entry.value, key: Self.methodKey).lowercased()
      methodLocation = entry.value.location
    }
    let method = try Self.method(named: adapterMethod, at: methodLocation, among: methods)

    let groupKeys =
      ModelArguments.keys.map(\.name) + DataArguments.keys.map(\.name) + TrainingArguments.keys.map(\.name)
    let adapterKeys = method.options.map(\.name)
    let known = [Self.methodKey] + groupKeys + adapterKeys
    for entry in entries where !known.contains(entry.key) && !UnknownKey.isHarmless(entry) {
      if let other = methods.first(where: { $0.options.contains { $0.name == entry.key } }) {
        throw ConfigurationError(
          "`\(entry.key)` is a key of `peft_method: \(other.name)`, but the method is `\(method.name)`",
          key: entry.key, at: entry.value.location, remedy: "remove it, or change `peft_method`")
      }
      throw UnknownKey.error(entry.key, at: entry.value.location, among: known)
    }
    try model.set(entries)
    try data.set(entries)
    try training.set(entries)
    adapter = try Self.resolve(entries.filter { adapterKeys.contains($0.key) }, for: method)
  }

  /// Checks every value and combination without opening the model or the data.
  ///
  /// - Throws: `ConfigurationError` about the first key that does not fit.
  public func validate(methods: [AdapterMethod] = AdapterMethod.catalogue) throws {
    try model.validate()
    try data.validate()
    _ = try adapterConfiguration(methods: methods)
    try training.validate(hasValidationData: data.hasValidationData)
    try validateTask()
    guard !training.bf16 || model.dtype != .float32 else {
      throw ConfigurationError(
        "`bf16: true` contradicts `dtype: float32`", key: "bf16", remedy: "remove one of the two")
    }
    guard !training.fp16 || model.dtype == .auto else {
      throw ConfigurationError(
        "`fp16: true` contradicts `dtype: \(model.dtype.rawValue)`", key: "fp16",
        remedy: "remove one of the two")
    }
  }

  /// What the run trains for, `task_type`.
  public var task: ModelTask { adapter["task_type"]?.stringValue.flatMap(ModelTask.init) ?? .causalLM }

  /// Settings of classifiers mean nothing to language models, and the other way round.
  private func validateTask() throws {
    let foreign: [(key: String, isSet: Bool)] =
      switch task {
      case .causalLM:
        [
          ("num_labels", model.numLabels != nil), ("problem_type", model.problemType != nil),
          ("label_column", data.labelColumn != nil), ("text_pair_column", data.textPairColumn != nil),
        ]
      case .sequenceClassification:
        [
          ("row_format", data.rowFormat != nil && data.rowFormat != LabelledFormat.name),
          ("prompt_column", data.promptColumn != nil), ("response_column", data.responseColumn != nil),
          ("completion_only_loss", training.completionOnlyLoss != nil),
          ("assistant_only_loss", training.assistantOnlyLoss != nil),
        ]
      }
    guard let (key, _) = foreign.first(where: \.isSet) else { return }
    throw ConfigurationError(
      "`\(key)` has no meaning with `task_type: \(task.taskType)`", key: key,
      remedy: task == .causalLM
        ? "set `task_type: SEQ_CLS`, or remove it" : "remove it, or `task_type: SEQ_CLS`")
  }

  /// The adapter's settings as the method's own configuration type.
  ///
  /// - Throws: `ConfigurationError` about the first key that does not fit.
  public func adapterConfiguration(methods: [AdapterMethod] = AdapterMethod.catalogue) throws
    -> any AdapterConfiguration
  {
    let method = try Self.method(named: adapterMethod, at: nil, among: methods)
    let fields = AdapterFields(adapter.objectValue ?? [:], source: "the configuration")
    do {
      return try method.configuration(fields)
    } catch let error as AdapterError {
      guard let option = error.option else { throw error }
      throw ConfigurationError(
        "`\(option.name)` \(option.problem)", key: option.name, remedy: option.remedy)
    }
  }

  /// The key that names the adapter method.
  static let methodKey = "peft_method"
}

// MARK: Reading

extension RunConfiguration {
  private static func text(of path: String) throws -> String {
    var isDirectory: ObjCBool = false
    let whole = ConfigurationLocation.file(path, line: 0)
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw ConfigurationError(
        "the configuration file does not exist", at: whole, remedy: "check the path and the working directory"
      )
    }
    guard !isDirectory.boolValue else {
      throw ConfigurationError("the configuration is a folder", at: whole, remedy: "name the YAML file in it")
    }
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw ConfigurationError(
        "the configuration file cannot be opened", at: whole, remedy: "check that you may read it")
    }
    defer { try? file.close() }
    let data: Data
    do {
      // One byte more than is allowed, so that a huge file is refused without being read.
      data = try file.read(upToCount: YAMLReader.maximumSize + 1) ?? Data()
    } catch {
      throw ConfigurationError(
        "the configuration file cannot be read: \(error.localizedDescription)", at: whole,
        remedy: "check the disk")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      let line = String(decoding: data, as: UTF8.self).prefix { $0 != "\u{FFFD}" }.count { $0.isNewline } + 1
      throw ConfigurationError(
        "the file is not UTF-8 text", at: .file(path, line: line), remedy: "save the configuration as UTF-8")
    }
    return text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
  }

  private static func entries(of yaml: String, name: String) throws -> [ConfigurationNode.Entry] {
    var reader = YAMLReader(file: name)
    let example = "write keys such as `model_name_or_path: …` and `train_file: …`, one a line"
    guard let root = try reader.read(yaml), !root.isNull else {
      throw ConfigurationError("the configuration is empty", at: .file(name, line: 0), remedy: example)
    }
    guard case .mapping(let entries) = root.content else {
      throw ConfigurationError(
        "the configuration holds \(root.summary) instead of keys with values", at: root.location,
        remedy: example)
    }
    return entries
  }

  /// Puts an override in the place of the file's entry.
  private static func apply(_ override: String, to entries: inout [ConfigurationNode.Entry]) throws {
    let location = ConfigurationLocation.override(override)
    guard let equals = override.firstIndex(of: "="), equals != override.startIndex else {
      throw ConfigurationError(
        "the override has no `=` after a key", at: location, remedy: "write `--set learning_rate=1e-4`")
    }
    var reader = YAMLReader(override: override)
    let text = String(override[override.index(after: equals)...])
    var value = try reader.read(text) ?? ConfigurationNode(.null)
    value.location = location
    // Only the top level has keys with fixed names; what follows the first dot is one name of a mapping, and may hold
    // dots itself: `rank_pattern.layers.0.q_proj=4`.
    let path = override[..<equals].split(separator: ".", maxSplits: 1).map {
      $0.trimmingCharacters(in: .whitespaces)
    }
    guard let key = path.first, !key.isEmpty, path.last?.isEmpty == false else {
      throw ConfigurationError(
        "the override names no key", at: location, remedy: "write `--set learning_rate=1e-4`")
    }
    let index = entries.firstIndex { $0.key == key }
    if path.count == 2 {
      var inner: [ConfigurationNode.Entry] = []
      if let index {
        if case .mapping(let present) = entries[index].value.content {
          inner = present
        } else if !entries[index].value.isNull {
          throw ConfigurationError(
            "`\(key)` is \(entries[index].value.summary) and has no entry `\(path[1])`", key: key,
            at: location,
            remedy: "set `\(key)` as a whole")
        }
      }
      inner.removeAll { $0.key == path[1] }
      inner.append(.init(key: path[1], value: value))
      value = ConfigurationNode(.mapping(inner), at: location)
    }
    if let index { entries[index].value = value } else { entries.append(.init(key: key, value: value)) }
  }

  private static func method(
    named name: String, at location: ConfigurationLocation?, among methods: [AdapterMethod]
  ) throws -> AdapterMethod {
    if let method = methods.first(where: { $0.name == name }) { return method }
    let names = methods.map(\.name)
    let remedy =
      NearestKey.suggestion(for: name, among: names).map { "write `\($0)`" }
      ?? "choose one of \(names.map { "`\($0)`" }.joined(separator: ", "))"
    throw ConfigurationError(
      "`\(name)` is not an adapter method", key: methodKey, at: location, remedy: remedy)
  }

  /// The method's defaults with the given values in their places.
  private static func resolve(
    _ entries: [ConfigurationNode.Entry], for method: AdapterMethod
  ) throws -> JSONValue {
    var resolved: JSONValue = ["peft_type": .string(method.peftType)]
    for key in method.options { resolved[key.name] = key.defaultValue }
    for entry in entries {
      guard let key = method.options.first(where: { $0.name == entry.key }) else {
        throw UnknownKey.error(entry.key, at: entry.value.location, among: method.options.map(\.name))
      }
      guard let value = key.type.value(of: entry.value) else {
        throw entry.value.mismatch(
          entry.key, expected: "of type \(key.type.name)", remedy: "write \(key.type.name)")
      }
      resolved[key.name] = value
    }
    return resolved
  }
}
