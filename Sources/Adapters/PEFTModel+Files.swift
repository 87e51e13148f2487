import Files
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import Torch

extension PEFTModel {
  // MARK: Saving

  /// Writes adapters as PEFT does: `adapter_config.json`, `adapter_model.safetensors`, `README.md`; those not called
  /// "default" in folders of their names.
  ///
  /// Each file is written aside and renamed, so that a crash leaves the old one or the new one.
  public func savePretrained(_ directory: String, adapters: [String]? = nil) throws {
    for name in adapters ?? adapterNames {
      let root = URL(fileURLWithPath: directory, isDirectory: true)
      try saveAdapter(name, to: name == "default" ? root : root.appendingPathComponent(name))
    }
  }

  /// Writes one adapter into `directory` itself.
  public func saveAdapter(_ name: String, to directory: URL) throws {
    let entry = try entry(name)
    if entry.adapter.isWholeModel { return try saveModel(name, to: directory) }
    try PEFTModel.write(
      entry.settings, storedTensors(entry).map { ($0.name, try $0.value()) }, labels: labels, to: directory)
  }

  /// What the base tells apart, which PEFT's files do not say; nil for a language model.
  var labels: ClassificationLabels? { (base as? any SequenceClassificationModel)?.labels }

  /// Writes an adapter's files from its settings and its tensors under their complete names.
  static func write(
    _ configuration: any AdapterConfiguration, _ tensors: [(name: String, tensor: Tensor)],
    labels: ClassificationLabels? = nil, to directory: URL
  ) throws {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try Safetensors.write(
      tensors.map { TensorToWrite(name: $0.name, tensor: $0.tensor) }, metadata: ["format": "pt"],
      to: directory.appendingPathComponent("adapter_model.safetensors"))
    if let labels { try labels.write(toAdapter: directory) }
    // The configuration last: a directory that has one is complete.
    let readme = directory.appendingPathComponent("README.md")
    if !FileManager.default.fileExists(atPath: readme.path) {
      try AtomicFile.write(Data(modelCard(configuration, labels).utf8), to: readme)
    }
    try AtomicFile.write(
      Data(configuration.json.utf8), to: directory.appendingPathComponent("adapter_config.json"))
  }

  /// Writes the base with the adapter's parameters in it, in the type that the base came in.
  private func saveModel(_ name: String, to directory: URL) throws {
    guard mergedAdapters.isEmpty else {
      throw AdapterError(
        "The adapter `\(mergedAdapters[0])` is merged into the weights; unmerge it before the model is saved."
      )
    }
    try mergeAdapter([name])
    let result = Result { try base.savePretrained(to: directory) }
    try unmergeAdapter()
    try result.get()
  }

  func storedTensors(_ entry: Entry) -> [AdapterTensor] {
    entry.adapter.storedTensors
      + entry.modulesToSave.flatMap(\.storedTensors).map { $0.renamed(prefix: entry.adapter.basePrefix) }
  }

  private static func modelCard(_ configuration: any AdapterConfiguration, _ labels: ClassificationLabels?)
    -> String
  {
    let base = configuration.common.baseModelNameOrPath ?? ""
    let loader = "AutoPeftModel" + (labels == nil ? ModelTask.causalLM : .sequenceClassification).classSuffix
    let options = labels.map { ", num_labels=\($0.count)" } ?? ""
    return """
      ---
      base_model: \(base)
      library_name: peft
      ---

      An adapter (\(type(of: configuration).method.peftType)) for `\(base)`, trained with Graft.

      ```python
      from peft import \(loader)

      model = \(loader).from_pretrained("path/to/this/directory"\(options))
      ```

      """
  }

  // MARK: Loading

  /// The settings in an adapter's directory.
  public static func readConfiguration(_ directory: URL) throws -> any AdapterConfiguration {
    let file = directory.appendingPathComponent("adapter_config.json")
    guard let data = try? Data(contentsOf: file) else {
      throw AdapterError(
        "\(file.path) cannot be read. An adapter's directory holds adapter_config.json and adapter_model.safetensors; "
          + "check the path.")
    }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: data)
    } catch {
      throw AdapterError("\(file.path) is not valid JSON: \(error). Save the adapter again.")
    }
    guard let object = json.objectValue else {
      throw AdapterError("\(file.path) holds \(json.kind), not an object. Save the adapter again.")
    }
    let fields = AdapterFields(object, source: file.path)
    guard let peftType = try fields.string("peft_type") else {
      throw AdapterError("`peft_type` is missing from \(file.path); it says which method the adapter is.")
    }
    return try AdapterMethod.named(peftType, in: file.path).configuration(fields)
  }

  /// Loads an adapter that Graft or PEFT saved, and puts it to work when it is the first.
  ///
  /// - Throws: ``AdapterError`` when the adapter is for another base: a tensor is missing, unknown or of another shape.
  public func loadAdapter(_ path: String, name: String = "default") throws {
    let directory = URL(fileURLWithPath: path, isDirectory: true)
    let configuration = try PEFTModel.readConfiguration(directory)
    let checkpoint = try Checkpoint.open(directory)
    try addAdapter(name, configuration)
    do {
      try entry(name).adapter.prepareLoading(configuration)
      try fill(entry(name), from: checkpoint, at: path)
      entries[name]?.isFilled = true
    } catch {
      try deleteAdapter(name)
      throw error
    }
    if activeAdapters.isEmpty { try setAdapter(name) }
  }

  /// Takes the values of an adapter that is on this model already from the files in `directory`.
  public func loadWeights(_ name: String, from directory: URL) throws {
    let adapter = try entry(name).adapter
    if !adapter.isWholeModel { try adapter.prepareLoading(PEFTModel.readConfiguration(directory)) }
    try fill(entry(name), from: Checkpoint.open(directory), at: directory.path)
    entries[name]?.isFilled = true
  }

  private func fill(_ entry: Entry, from checkpoint: any CheckpointReader, at path: String) throws {
    let wanted = storedTensors(entry)
    let unknown = Set(checkpoint.tensorNames).subtracting(wanted.map(\.name))
    if let stored = unknown.min() {
      throw AdapterError(
        "The adapter at \(path) holds `\(stored)`, which this \(base.typeName) with its adapter_config.json has no "
          + "place for. The adapter is for another base model.")
    }
    for tensor in wanted { try fill(tensor, from: checkpoint, at: path) }
  }

  private func fill(_ tensor: AdapterTensor, from checkpoint: any CheckpointReader, at path: String) throws {
    guard checkpoint.contains(tensor.name) else {
      guard tensor.isRequired else { return }
      throw AdapterError(
        "`\(tensor.name)` is missing from the adapter at \(path). It was made for another model than this "
          + "\(base.typeName), or its adapter_config.json is not its own.")
    }
    let shape = try checkpoint.storedTensor(tensor.name).shape
    guard shape == tensor.shape else {
      throw AdapterError(
        "`\(tensor.name)` in the adapter at \(path) has the shape \(shape), and this \(base.typeName) with its "
          + "adapter_config.json needs \(tensor.shape). "
          + (tensor.isRequired
            ? "The adapter is for another base model."
            : "The vocabulary was resized; load the base model that the adapter was trained on."))
    }
    // A model that is only looked at has shapes and no values.
    guard let load = tensor.load, base.device.kind != .meta else { return }
    let value = try checkpoint.tensor(tensor.name, dtype: .float32).to(.float32, device: base.device)
    guard try value.count == 0 || value.isFinite().to(.int64).min().item() == 1 else {
      throw AdapterError(
        "`\(tensor.name)` in the adapter at \(path) holds values that are infinite or no numbers; its training diverged. "
          + "Use an earlier checkpoint.")
    }
    try load(value)
  }
}
