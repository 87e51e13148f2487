import Formats
import Foundation
import JSON
import Torch

/// Where a pretrained model lies: a Hugging Face directory or a GGUF file, seen alike.
public struct PretrainedSource: Sendable {
  public enum Layout: Sendable {
    case directory
    case gguf(GGUFFile)
  }

  /// The directory or the file.
  public let url: URL
  public let layout: Layout
  public var configuration: ModelConfiguration
  public let family: ModelFamily

  /// What the stored model is for, by its class in `architectures`; a model that names none predicts tokens.
  public var task: ModelTask {
    let name = configuration.json["architectures"]?[0]?.stringValue ?? ""
    return ModelTask.allCases.first { name.hasSuffix($0.classSuffix) } ?? .causalLM
  }

  private let checkpoint: any CheckpointReader
  /// Names in the model → names in the file.
  private let storedNames: [String: String]

  /// - Throws: ``ModelError`` or `FormatError` when there is no model, or none that Graft knows, at `path`.
  public init(_ path: String) throws {
    let url = URL(fileURLWithPath: path)
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory) else {
      throw ModelError(
        "There is no model at \(url.path). Name a directory with config.json and weights, or a .gguf file.")
    }
    if isDirectory.boolValue, !PretrainedSource.isOnlyGGUF(url) {
      try self.init(directory: url)
    } else {
      let checkpoint = try Checkpoint.open(url)
      guard let file = checkpoint as? GGUFFile else {
        throw ModelError(
          "\(url.path) holds weights without a configuration. Name the directory that has its config.json.")
      }
      try self.init(gguf: file)
    }
  }

  private static func isOnlyGGUF(_ directory: URL) -> Bool {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return !files.contains("config.json") && files.contains { $0.hasSuffix(".gguf") }
  }

  private init(directory: URL) throws {
    url = directory
    layout = .directory
    var configuration = try ModelConfiguration(directory: directory)
    configuration.nameOrPath = directory.standardizedFileURL.path
    self.configuration = configuration
    family = try ModelFamily.of(configuration)
    checkpoint = try Checkpoint.open(directory)
    storedNames = Dictionary(uniqueKeysWithValues: checkpoint.tensorNames.map { ($0, $0) })
  }

  private init(gguf file: GGUFFile) throws {
    let name = file.values.architecture ?? "unnamed"
    guard let family = ModelFamily.catalogue.first(where: { $0.gguf?.name == name }),
      let architecture = family.gguf
    else {
      let known = ModelFamily.catalogue.compactMap(\.gguf?.name).joined(separator: ", ")
      throw ModelError(
        "\(file.url.path) holds a model of the architecture `\(name)`, which Graft does not have; it has \(known)."
      )
    }
    url = file.url
    layout = .gguf(file)
    self.family = family
    var configuration = try architecture.configuration(
      of: file, modelType: family.modelType, architecture: family.architecture(.causalLM))
    configuration.nameOrPath = file.url.standardizedFileURL.path
    self.configuration = configuration
    checkpoint = file
    // Frequency factors become `rope_scaling`.
    if let unknown = file.tensorNames.first(where: {
      architecture.checkpointName(of: $0) == nil && $0 != "rope_freqs.weight"
    }) {
      throw ModelError(
        "\(file.url.path) holds `\(unknown)`, which a \(family.architecture(.causalLM)) does not have. Use the safetensors form of this "
          + "model.")
    }
    storedNames = Dictionary(
      file.tensorNames.compactMap { stored in architecture.checkpointName(of: stored).map { ($0, stored) } },
      uniquingKeysWith: { first, _ in first })
  }

  /// The names that the model's parameters have, of those that are stored.
  public var tensorNames: [String] { Array(storedNames.keys) }

  /// The shape of a stored tensor; nil when there is none.
  func shape(_ name: String) throws -> [Int]? {
    try storedNames[name].map { try checkpoint.storedTensor($0).shape }
  }

  /// Refuses stored types that are no weights: integers are codes of some quantization, which mean nothing as numbers.
  func checkType(_ name: String) throws {
    guard let stored = try storedNames[name].map({ try checkpoint.storedTensor($0) }),
      case .dense(let dtype) = stored.type, !dtype.isFloatingPoint
    else { return }
    throw ModelError(
      "`\(name)` at \(url.path) holds \(dtype.torchName) elements, which are no weights by themselves; use the model in "
        + "float32, float16 or bfloat16.")
  }

  /// The tensor under the model's name for it, in `dtype`.
  package func tensor(_ name: String, dtype: DType?) throws -> Tensor {
    guard let stored = storedNames[name] else {
      throw ModelError("`\(name)` is missing from \(checkpoint.url.path). Download the file again.")
    }
    return try inModelOrder(checkpoint.tensor(stored, dtype: dtype), name)
  }

  /// The rows of a tensor as the model has them: converters to GGUF reorder some.
  func inModelOrder(_ tensor: Tensor, _ name: String) throws -> Tensor {
    guard case .gguf = layout, let architecture = family.gguf else { return tensor }
    return try architecture.restored(tensor, checkpointName: name, configuration: configuration)
  }

  /// Lets the pages of the files leave memory: most weights have been copied from them. Those that still lie over them are
  /// read again where they are used.
  func releasePages() { checkpoint.advise(.notNeeded) }

  /// Whether there is a tensor under the model's name for it.
  func holds(_ name: String) -> Bool { storedNames[name] != nil }

  /// The tensor as it is stored; nil when there is none.
  func storedTensor(_ name: String) throws -> StoredTensor? {
    try storedNames[name].map { try checkpoint.storedTensor($0) }
  }

  /// The bytes of a tensor, uint8 `[n]`, whatever type they are said to be.
  func storedBytes(_ name: String) throws -> Tensor {
    guard let stored = try storedTensor(name) else {
      throw ModelError("`\(name)` is missing from \(checkpoint.url.path). Download the file again.")
    }
    return try stored.bytes.withUnsafeBytes { try Tensor(copying: $0, shape: [$0.count], dtype: .uint8) }
  }

  /// The type that the weights are kept in when the user asks for none: the one they were saved in, and bfloat16 for
  /// quantized blocks, whose rounding it does not add to.
  public var preferredDType: DType {
    if case .gguf(let file) = layout {
      guard let stored = try? file.storedTensor("token_embd.weight"), case .dense(let dtype) = stored.type
      else { return .bfloat16 }
      return dtype
    }
    return configuration.dtype ?? .float32
  }
}
