import JSON
import NeuralNetworks
import Torch

/// An optimizer that `optim` can name.
struct OptimizerEntry: Sendable {
  let name: String
  /// Other names of the same update: PyTorch's fused kernels, transformers' older spellings.
  let synonyms: [String]
  /// Whether its states lie in a file's pages, or for a GPU in the host's memory.
  let isPaged: Bool
  /// The optimizer whose states these are: a run may change between the two.
  let stateName: String
  /// Keys of `optim_args`.
  let options: [String]
  /// One clause in Markdown.
  let summary: String
  let rule: @Sendable (TrainingArguments, inout OptimizerOptions) throws -> any UpdateRule

  init(
    _ name: String, synonyms: [String] = [], pagedFormOf stateName: String? = nil, options: [String] = [],
    summary: String,
    rule: @escaping @Sendable (TrainingArguments, inout OptimizerOptions) throws -> any UpdateRule
  ) {
    self.name = name
    self.synonyms = synonyms
    isPaged = stateName != nil
    self.stateName = stateName ?? name
    self.options = options
    self.summary = summary
    self.rule = rule
  }
}

/// Every optimizer.
enum OptimizerCatalogue {
  /// In the order in which messages list them.
  static let all: [OptimizerEntry] =
    AdamW.entries + AdamW8Bit.entries + Adafactor.entries + Lion.entries + SGD.entries

  static func entry(named name: String) -> OptimizerEntry? {
    all.first { $0.name == name || $0.synonyms.contains(name) }
  }
}

extension TrainingArguments {
  /// The optimizer that `optim` names, for these parameters.
  ///
  /// - Throws: `ConfigurationError` for `optim_args` that it does not have, and for states that are to go where they are; `FileError` when
  ///   there is no room for states on the disk.
  package func optimizer(for parameters: [(key: String, parameter: Parameter)]) throws -> any Optimizer {
    let loraPlus = LoRAPlus(self)
    return try RuleOptimizer(
      updateRule(), parameters, weightDecay: weightDecay,
      placement: statePlacement(on: parameters.first?.parameter.value.device.kind ?? .cpu)
    ) { key, shape in loraPlus?.settings(key, shape: shape) }
  }

  /// Where the states lie when the parameters are on such a device.
  func statePlacement(on device: Device.Kind) throws -> StatePlacement {
    switch offloadOptimizer {
    // A GPU's pages are the host's memory, which it reads by itself.
    case .none where optim.entry.isPaged: return device == .cpu ? .disk(folder: outputDir) : .host
    case .none: return .device
    case .disk: return .disk(folder: outputDir)
    case .cpu:
      guard device != .cpu else {
        throw ConfigurationError(
          "`offload_optimizer` is `cpu`, and the run is on the processor, in whose memory the states are anyway",
          key: "offload_optimizer", remedy: "write `disk`, or remove it")
      }
      return .host
    }
  }

  /// The formula that `optim` and its options choose.
  func updateRule() throws -> any UpdateRule {
    let entry = optim.entry
    var options = try OptimizerOptions(optimArgs, of: entry)
    return try entry.rule(self, &options)
  }
}

/// `optim`: the update rule, by the names that transformers has.
public struct OptimizerChoice: ConfigurationValue {
  let entry: OptimizerEntry

  public static let adamwTorch = OptimizerChoice(AdamW.entries[0])

  private init(_ entry: OptimizerEntry) {
    self.entry = entry
  }

  /// Nil when there is no optimizer of this name.
  public init?(_ name: String) {
    guard let entry = OptimizerCatalogue.entry(named: name) else { return nil }
    self.init(entry)
  }

  /// The name that the reference lists.
  public var name: String { entry.name }

  public static var typeName: String { OptimizerCatalogue.all.map { "`\($0.name)`" }.joined(separator: ", ") }

  public init(_ node: ConfigurationNode, key: String) throws {
    guard case .scalar(let text, _) = node.content, let entry = OptimizerCatalogue.entry(named: text) else {
      let names = OptimizerCatalogue.all.flatMap { [$0.name] + $0.synonyms }
      var nearest: String?
      if case .scalar(let text, _) = node.content { nearest = NearestKey.suggestion(for: text, among: names) }
      throw node.mismatch(
        key, expected: "one of \(Self.typeName)",
        remedy: nearest.map { "write `\($0)`" } ?? "write one of them")
    }
    self.init(entry)
  }

  public var json: JSONValue { .string(name) }

  public static func == (a: OptimizerChoice, b: OptimizerChoice) -> Bool { a.name == b.name }
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}
