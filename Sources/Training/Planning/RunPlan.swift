import Adapters
import Datasets
import Foundation
import Generation
import Models
import NeuralNetworks
import Torch

/// The plan of a whole run as a ``RunConfiguration`` describes it: what it takes, whether that fits, and what to change.
///
/// Shapes come from `config.json` or the header of the GGUF file; no weight is read, and none need be there.
public struct RunPlan: Sendable {
  public let plan: MemoryPlan
  public let format: WeightFormat
  /// Whether the largest batch was taken from the data; otherwise it is the settings' largest.
  public let isMeasuredBatch: Bool
  /// Bytes that the device has for this process; nil when that is not known.
  public let capacity: Int?
  /// Changes that take less memory, each with the total it leads to, the gentlest first.
  public let changes: [Change]

  public struct Change: Sendable, Hashable {
    /// The lines to write: `gradient_checkpointing: true`.
    public let settings: String
    /// What it costs.
    public let cost: String
    public let total: Int
  }

  public var fits: Bool? { capacity.map { plan.total <= $0 } }

  /// - Parameters:
  ///   - weights: a format to assume instead of the one that the configuration asks for, of `WeightFormat.packed`.
  ///   - capacity: bytes to assume instead of what the device has.
  /// - Throws: an error that names what is missing or wrong, as the run itself would.
  public init(_ configuration: RunConfiguration, weights: String? = nil, capacity: Int? = nil) async throws {
    try configuration.validate()
    let structure = try ModelStructure(configuration.model.modelNameOrPath)
    let computeType = configuration.computeType ?? structure.preferredType
    if let weights {
      guard let packed = WeightFormat.packed(weights, computeType: computeType) else {
        let known = WeightFormat.packed.map(\.name).joined(separator: ", ")
        throw TrainingError("There is no weight format `\(weights)`; write one of \(known).")
      }
      format = packed
    } else {
      format = try structure.format(configuration.model.quantization, computeType: computeType)
    }
    let adapter = try configuration.adapterConfiguration()
    let (data, labels) = try await Self.data(configuration, structure)
    isMeasuredBatch = data != nil
    // What reading the rows and the tokenizer needed for a moment is used again.
    Engine.releaseFreedMemory()
    let (format, program) = (format, ProcessMemory.resident)
    let device = try Device(choice: configuration.model.device).kind
    let isPacked = configuration.model.ggufPacked && weights == nil

    func plan(_ change: (inout TrainingArguments) -> Void, shorter: Bool = false) throws -> MemoryPlan {
      var arguments = configuration.training
      change(&arguments)
      let base = try structure.make(computeType, configuration.task, labels)
      base.usesGradientCheckpointing = arguments.gradientCheckpointing
      let model = try PEFTModel(base, adapter)
      model.isTraining = true
      // Rows that a shorter max_length would cut are not encoded again.
      let limit = try arguments.maxTokensPerPass(
        model, on: device, weightBytes: format.bytes(of: base), elementSize: format.computeType.byteCount)
      let batch = try Self.largestBatch(
        arguments, shorter ? nil : data, contextLength: base.contextLength, limit: limit,
        sharesPrefix: base.backbone.sharesPrefixes)
      return try MemoryPlan(
        model, arguments: arguments, format: format, batch: batch, device: device, program: program,
        mapped: device == .cpu ? structure.mappedBytes(of: model, dtype: computeType, isPacked: isPacked) : 0)
    }
    self.plan = try plan { _ in }
    self.capacity = try capacity ?? Self.memory(of: Device(choice: configuration.model.device))

    let current = self.plan.total
    changes = try Self.alternatives(to: configuration.training, isMeasuredBatch: isMeasuredBatch).compactMap {
      alternative in
      let total = try plan({ $0 = alternative.arguments }, shorter: alternative.isShorter).total
      return total < current
        ? Change(settings: alternative.settings, cost: alternative.cost, total: total) : nil
    }
  }

  /// Settings that may take less memory.
  private struct Alternative {
    let settings: String
    let cost: String
    let arguments: TrainingArguments
    var isShorter = false
  }

  private static func alternatives(to arguments: TrainingArguments, isMeasuredBatch: Bool) -> [Alternative] {
    var result: [Alternative] = []
    func add(
      _ settings: String, _ cost: String, isShorter: Bool = false, _ change: (inout TrainingArguments) -> Void
    ) {
      var changed = arguments
      change(&changed)
      result.append(Alternative(settings: settings, cost: cost, arguments: changed, isShorter: isShorter))
    }
    if !arguments.gradientCheckpointing {
      add("gradient_checkpointing: true", "about a third more time") { $0.gradientCheckpointing = true }
    }
    if arguments.perDeviceTrainBatchSize > 1 {
      add("max_tokens_per_pass: 1", "the same updates, row by row: slower when rows are short") {
        $0.maxTokensPerPass = 1
      }
      add("max_tokens_per_pass: 1, gradient_checkpointing: true", "the least activations at this length") {
        $0.maxTokensPerPass = 1
        $0.gradientCheckpointing = true
      }
    }
    if arguments.gradientCheckpointing, !arguments.activationOffloading {
      add("activation_offloading: true", "layers' inputs go to the disk or the processor's memory, and back")
      {
        $0.activationOffloading = true
      }
    }
    if arguments.optim == .adamwTorch, let eightBit = OptimizerChoice("adamw_8bit") {
      add("optim: adamw_8bit", "moments rounded to 8 bits") { $0.optim = eightBit }
    }
    if let length = arguments.maxLength, length >= 64, !isMeasuredBatch {
      add("max_length: \(length / 2)", "longer rows are cut", isShorter: true) { $0.maxLength = length / 2 }
    }
    return result
  }

  // MARK: Batches

  private static func data(_ configuration: RunConfiguration, _ structure: ModelStructure) async throws
    -> (examples: (any ExampleSource)?, labels: ClassificationLabels?)
  {
    let stated = configuration.model.numLabels.map { ClassificationLabels(count: $0) }
    guard let tokenizer = try structure.tokenizer(configuration.model) else { return (nil, stated) }
    try configuration.data.checkFiles()
    let data = try await TrainingData(
      configuration.data, configuration.training, tokenizer: tokenizer,
      labels: configuration.labels(for: structure.labels))
    return (data.train, data.labels.map { ClassificationLabels($0) })
  }

  /// The largest pass, of at most `limit` tokens, of the first epoch or, without data, of rows as long as the settings allow, all supervised.
  private static func largestBatch(
    _ arguments: TrainingArguments, _ data: (any ExampleSource)?, contextLength: Int, limit: Int,
    sharesPrefix: Bool
  ) throws -> MemoryPlan.Batch {
    guard let data else {
      let row = min(arguments.maxLength ?? contextLength, contextLength)
      let rows = min(arguments.perDeviceTrainBatchSize, max(1, limit / row))
      return .init(
        tokens: rows * row, supervised: rows * row,
        isAccumulated: arguments.gradientAccumulationSteps > 1 || rows < arguments.perDeviceTrainBatchSize)
    }
    let plan = try DataPlan(lengths: data.lengths, options: BatchingOptions(arguments))
    var largest = MemoryPlan.Batch(
      tokens: 0, supervised: 0, isAccumulated: arguments.gradientAccumulationSteps > 1)
    let epoch = plan.epoch(0)
    for index in 0..<epoch.count {
      let examples = try epoch[index].map { try data.example(at: Int($0)) }
      let passes = Batch(examples).split(maxTokens: limit, sharesPrefix: sharesPrefix)
      largest.isAccumulated = largest.isAccumulated || passes.count > 1
      for pass in passes {
        largest.tokens = max(largest.tokens, sharesPrefix ? pass.rowsWithSharedPrefix : pass.tokens.count)
        largest.supervised = max(largest.supervised, pass.supervisedTokens)
      }
    }
    return largest
  }

  // MARK: Devices

  /// Bytes of memory that this process may take; nil for devices that do not tell.
  private static func memory(of device: Device) -> Int? {
    device.kind == .cpu ? HostMemory.limit : nil
  }
}

extension PretrainedSource {
  /// Bytes of the input embedding when it stays in its file, from which rows are read (`Embedding.setMapped`): it is frozen, no
  /// adapter's, and not the output embedding too.
  package func mappedBytes(of model: PEFTModel, dtype: DType, packed: Bool) throws -> Int {
    let (base, weight) = (model.base, model.base.inputEmbedding.weight)
    guard !base.tiesEmbeddings, base.inputEmbedding.adapters.isEmpty, !weight.isTrainable,
      let name = base.namedParameters().first(where: { $0.1 === weight })?.0
    else { return 0 }
    return try bytesInPlace(name, dtype: dtype, packed: packed)?.count ?? 0
  }
}

/// A model's shapes, of a folder that need hold no more than `config.json`, or of a GGUF file.
private struct ModelStructure {
  private let configuration: ModelConfiguration
  private let family: ModelFamily
  private let source: PretrainedSource?
  let preferredType: DType

  init(_ path: String) throws {
    let folder = URL(fileURLWithPath: path, isDirectory: true)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let hasWeights = names.contains { name in
      ["safetensors", "bin", "gguf", "index.json"].contains { name.hasSuffix(".\($0)") }
    }
    if names.contains("config.json"), !hasWeights {
      configuration = try ModelConfiguration(directory: folder)
      family = try ModelFamily.of(configuration)
      source = nil
      preferredType = configuration.dtype ?? .float32
    } else {
      let source = try PretrainedSource(path)
      (configuration, family, preferredType) = (source.configuration, source.family, source.preferredDType)
      self.source = source
    }
  }

  /// What the stored model tells apart; nil for one without a head for labels.
  var labels: ClassificationLabels? { get throws { try source?.classificationLabels } }

  /// The tree of shapes, in the type that the run will have it in.
  func make(_ dtype: DType, _ task: ModelTask, _ labels: ClassificationLabels?) throws -> any PretrainedModel
  {
    var configuration = configuration
    labels?.write(to: &configuration.json)
    let model =
      try source.map { try AutoModel.structure($0, task: task, labels: labels) }
      ?? family.make(configuration, family, task)
    for parameter in model.parameters() {
      parameter.value = try .empty(parameter.shape, dtype: dtype, device: .meta)
    }
    return model
  }

  /// Bytes of weights that stay in their file.
  func mappedBytes(of model: PEFTModel, dtype: DType, isPacked: Bool) throws -> Int {
    try source?.mappedBytes(of: model, dtype: dtype, packed: isPacked) ?? 0
  }

  /// How the run will hold the weights: as the settings say, or as a checkpoint that is quantized already has them.
  func format(_ quantization: BaseQuantization?, computeType: DType) throws -> WeightFormat {
    switch quantization {
    case .packed:
      guard let format = try source.map({ try WeightFormat.packed($0, computeType: computeType) }) ?? nil
      else {
        throw TrainingError(
          "`gguf_packed` is for a base in a GGUF file, and \(configuration.source) is none. Use load_in_4bit, or the model's GGUF form."
        )
      }
      return format
    case .bitsAndBytes(let settings): return .bitsAndBytes(settings, computeType: computeType)
    case nil:
      let stored = try BitsAndBytesConfig(configuration)
      return stored.map { .bitsAndBytes($0, computeType: computeType) } ?? .dense(computeType)
    }
  }

  /// Nil when there is none beside the configuration.
  func tokenizer(_ model: ModelArguments) throws -> ChatTokenizer? {
    if let path = model.tokenizerNameOrPath { return try AutoTokenizer.fromPretrained(path) }
    return try source.map { try AutoTokenizer.fromPretrained($0) }
  }
}
