import Adapters
import Foundation
import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// What `graft inspect` says about a model and its adapters, without having loaded weights.
struct ModelReport {
  /// What an adapter puts on one module.
  struct Target {
    var module: String
    var parameters: [(name: String, shape: [Int])]
  }

  struct AdapterPart {
    var name: String
    var method: String
    var parameterCount: Int
    var targets: [Target]
  }

  let source: PretrainedSource
  /// The class that the model is loaded as: with an adapter, for the adapter's task.
  let architecture: String
  /// What a classifier tells apart.
  let labels: ClassificationLabels?
  let tree: String
  let dtype: DType
  let parameterCount: Int
  let contextLength: Int
  let vocabularySize: Int
  let tiesEmbeddings: Bool
  let trainableLine: String?
  let adapters: [AdapterPart]

  /// - Parameter dtype: what the weights would be held in; nil is the type of the files.
  init(_ source: PretrainedSource, adapters: [(name: String, folder: String)], dtype: DType?) throws {
    self.source = source
    self.dtype = dtype ?? source.preferredDType
    let (task, labels) = try AutoPEFTModel.task(of: adapters.map(\.folder), on: source)
    let base = try AutoModel.structure(source, task: task, labels: labels)
    architecture = base.family.architecture(task)
    self.labels = (base as? any SequenceClassificationModel)?.labels
    parameterCount = base.parameterCount
    contextLength = base.contextLength
    vocabularySize = base.vocabularySize
    tiesEmbeddings = base.tiesEmbeddings

    let model = try PEFTModel(base)
    var parts: [AdapterPart] = []
    for (name, folder) in adapters {
      try model.loadAdapter(folder, name: name)
      try model.setAdapter(name)
      parts.append(try Self.part(name, of: model))
    }
    self.adapters = parts
    if let first = parts.first { try model.setAdapter(first.name) }
    tree = model.description
    trainableLine = parts.isEmpty ? nil : model.trainableParametersLine
  }

  private static func part(_ name: String, of model: PEFTModel) throws -> AdapterPart {
    let parameters = model.trainableParameters
    // A parameter belongs to the longest target that its name begins with; the rest are modules saved whole.
    let targets = try model.targets(name)
    var groups: OrderedDictionary<String, [(name: String, shape: [Int])]> = [:]
    for target in targets { groups[target] = [] }
    for (key, parameter) in parameters {
      let owner = targets.filter { key.hasPrefix($0 + ".") }.max { $0.count < $1.count }
      let module = owner ?? key.split(separator: ".").dropLast().joined(separator: ".")
      groups[module, default: []].append((String(key.dropFirst(module.count + 1)), parameter.shape))
    }
    let method = model.configuration(name).map { type(of: $0).method.peftType } ?? ""
    return AdapterPart(
      name: name, method: method, parameterCount: parameters.reduce(0) { $0 + $1.parameter.count },
      targets: groups.map { Target(module: $0.key, parameters: $0.value) })
  }

  /// Bytes that the weights take.
  private var weightBytes: Int { parameterCount * dtype.byteCount }

  // MARK: Output

  var text: String {
    var lines = [tree, ""]
    lines.append(
      "architecture   \(architecture) (\(source.family.modelType)), \(source.url.path)")
    lines.append("parameters     \(parameterCount.grouped)\(tiesEmbeddings ? ", embeddings tied" : "")")
    lines.append("weights        \(dtype.torchName), \(Self.size(weightBytes)) of memory")
    if let labels {
      let names = labels.names.prefix(10).joined(separator: ", ") + (labels.count > 10 ? ", …" : "")
      lines.append("labels         \(labels.count): \(names)")
    }
    lines.append("vocabulary     \(vocabularySize.grouped) tokens")
    lines.append("context        \(contextLength.grouped) tokens")
    for adapter in adapters {
      lines.append("")
      lines.append(
        "adapter \(adapter.name): \(adapter.method), \(adapter.parameterCount.grouped) parameters, "
          + "\(Self.size(4 * adapter.parameterCount)) in float32")
      let width = adapter.targets.map(\.module.count).max() ?? 0
      for target in adapter.targets {
        let shapes = target.parameters.map { "\($0.name) \($0.shape)" }.joined(separator: ", ")
        lines.append("  \(target.module.padding(toLength: width, withPad: " ", startingAt: 0))  \(shapes)")
      }
    }
    if let trainableLine { lines += ["", trainableLine] }
    return lines.joined(separator: "\n")
  }

  var json: JSONValue {
    var json = modelJSON
    if let labels {
      json["labels"] = .array(labels.names.map(JSONValue.string))
      json["problem_type"] = labels.problemType.map { .string($0.rawValue) } ?? .null
    }
    return json
  }

  private var modelJSON: JSONValue {
    [
      "model": .string(source.url.path),
      "architecture": .string(architecture),
      "model_type": .string(source.family.modelType),
      "parameters": .integer(parameterCount),
      "dtype": .string(dtype.torchName),
      "bytes": .integer(weightBytes),
      "vocabulary": .integer(vocabularySize),
      "context_length": .integer(contextLength),
      "tied_embeddings": .bool(tiesEmbeddings),
      "tree": .string(tree),
      "adapters": .array(adapters.map(Self.json)),
    ]
  }

  private static func json(_ adapter: AdapterPart) -> JSONValue {
    var targets: OrderedDictionary<String, JSONValue> = [:]
    for target in adapter.targets {
      var shapes: OrderedDictionary<String, JSONValue> = [:]
      for (name, shape) in target.parameters { shapes[name] = .array(shape.map(JSONValue.integer)) }
      targets[target.module] = .object(shapes)
    }
    return [
      "name": .string(adapter.name), "method": .string(adapter.method),
      "parameters": .integer(adapter.parameterCount), "targets": .object(targets),
    ]
  }

  private static func size(_ bytes: Int) -> String {
    bytes >= 1_000_000_000
      ? String(format: "%.2f GB", Double(bytes) / 1e9) : String(format: "%.1f MB", Double(bytes) / 1e6)
  }
}
