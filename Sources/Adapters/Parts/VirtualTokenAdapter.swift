import Models
import NeuralNetworks
import Torch

/// What makes the vectors of virtual tokens: a table of them, or a network that computes them from smaller ones.
protocol VirtualTokenEncoder: Module {
  /// A row for each virtual token.
  var embedding: Embedding { get }

  /// Whether the rows of ``embedding`` are the vectors themselves.
  var isTable: Bool { get }

  /// Whether dropout is in effect.
  var isTraining: Bool { get set }

  /// The vectors `[n, width]`, as PEFT's file holds them.
  func callAsFunction() throws -> Tensor
}

/// The adapter of a method that puts virtual tokens before each sequence.
///
/// PEFT's file holds their vectors alone (`prompt_embeddings`), from which a network that computed them cannot be had back: a
/// loaded adapter has the vectors for its parameters, and training goes on with those. A run that is taken up again has the
/// network too, as the Trainer's checkpoints keep it.
final class VirtualTokenAdapter: Adapter {
  private unowned let model: any PretrainedModel
  private let encoder: any VirtualTokenEncoder
  private let count: Int
  private let width: Int
  /// The only tensor of PEFT's file.
  private static let storedName = "prompt_embeddings"
  /// What the vectors become in the model.
  private let interpret: (Tensor) throws -> VirtualTokens.Values

  /// Vectors that a file gave in the encoder's place.
  private var table: Parameter?
  /// Whether training would go on without the encoder.
  private var hasLeftEncoder = false
  private var isActive = false

  /// - Parameters:
  ///   - count: virtual tokens, n.
  ///   - width: elements of each vector.
  ///   - interpret: what vectors `[n, width]` become in the model.
  init(
    _ encoder: any VirtualTokenEncoder, count: Int, width: Int, model: any PretrainedModel,
    interpret: @escaping (Tensor) throws -> VirtualTokens.Values
  ) {
    self.encoder = encoder
    self.count = count
    self.width = width
    self.model = model
    self.interpret = interpret
  }

  var parameters: [(key: String, parameter: Parameter)] {
    table.map { [(Self.storedName, $0)] } ?? encoderParameters
  }

  private var encoderParameters: [(key: String, parameter: Parameter)] {
    encoder.namedParameters().map { ("prompt_encoder.\($0.path)", $0.parameter) }
  }

  var targets: [String] { [] }
  var replacedCount: Int { 0 }

  var isTraining = false {
    didSet { encoder.isTraining = isTraining }
  }

  /// `[n, width]`, through the encoder unless a file gave them.
  private func vectors() throws -> Tensor { try table?.value ?? encoder() }

  // MARK: In the model

  func activate() throws {
    guard model.virtualTokens == nil else {
      throw AdapterError(
        "Another adapter that puts virtual tokens before each sequence is active; the model reads those of one. Put one of "
          + "them to work at a time.")
    }
    model.virtualTokens = VirtualTokens(count: count) { try self.interpret(self.vectors()) }
    isActive = true
  }

  func deactivate() {
    guard isActive else { return }
    model.virtualTokens = nil
    isActive = false
  }

  func merge() throws {
    throw AdapterError(
      "Virtual tokens are read beside the text and change no weight, so there is nothing to merge. Use the adapter as it "
        + "is, or train one whose method changes weights, such as LORA.")
  }

  func unmerge() {}

  // MARK: Printing

  var printedEncoder: PrintedModule? {
    guard table == nil else {
      return PrintedModule(
        encoder.typeName, children: [("embedding", PrintedModule("Embedding", "\(count), \(width)"))])
    }
    var printed = encoder.printed()
    for index in printed.children.indices {
      // PyTorch's lists of stages are modules of their own.
      guard case .list(let stages) = printed.children[index].content else { continue }
      let children = stages.enumerated().map { (name: "\($0)", module: $1) }
      printed.children[index].content = .module(PrintedModule("Sequential", children: children))
    }
    return printed
  }

  // MARK: Files

  var storedTensors: [AdapterTensor] {
    [
      AdapterTensor(
        name: Self.storedName, shape: [count, width], value: { try self.vectorsToStore() },
        load: { try self.take($0) })
    ]
  }

  var basePrefix: String { "base_model." }

  private func vectorsToStore() throws -> Tensor {
    // Dropout in between would store other vectors, and take random numbers from the run.
    encoder.isTraining = false
    defer { encoder.isTraining = isTraining }
    return try withoutGradient { try vectors().detached() }
  }

  private func take(_ vectors: Tensor) throws {
    if let table = encoder.isTable ? encoder.embedding.weight : table {
      try table.value.copyInPlace(vectors)
    } else {
      let table = Parameter(try vectors.copy())
      try table.setTrainable(true)
      self.table = table
    }
  }

  var trainingState: [AdapterTensor] {
    guard !encoder.isTable, !hasLeftEncoder else { return [] }
    return encoderParameters.map { key, parameter in
      AdapterTensor(
        name: key, shape: parameter.shape, value: { try parameter.value.detached() },
        load: { value in
          try parameter.value.copyInPlace(value)
          self.table = nil
        })
    }
  }

  func prepareTraining(totalSteps: Int) throws { hasLeftEncoder = table != nil }
}
