import JSON
import Models
import OrderedCollections

/// The settings of one adapter under one method: a complete value, stored as `adapter_config.json`.
public protocol AdapterConfiguration: Sendable {
  /// The method that these settings belong to.
  static var method: AdapterMethod { get }

  /// PEFT's class around the base model, for the printed tree: `LoraModel`.
  static var tunerName: String { get }

  /// Why several adapters of the method cannot become one, as a relative clause: "whose …"; said of methods that PEFT's
  /// `add_weighted_adapter` has nothing for.
  static var obstacleToCombining: String { get }

  /// Fields that training decides: a run that is taken up again may differ in them. None by default.
  static var learnedFields: Set<String> { get }

  var common: CommonAdapterSettings { get set }

  /// Reads the method's own fields.
  ///
  /// - Throws: ``AdapterError`` naming the field.
  init(_ fields: AdapterFields) throws

  /// The method's own fields under PEFT's names.
  var ownFields: OrderedDictionary<String, JSONValue> { get }

  /// Tokens that the method puts before each sequence, and that count towards the model's context; none by default.
  var virtualTokenCount: Int { get }

  /// Makes tokens of the texts among the settings, which an adapter that starts from them needs; nothing by default.
  ///
  /// - Parameter encode: tokens of a text by the model's tokenizer.
  mutating func encodeTexts(_ encode: (String) throws -> [Int32]) throws

  /// Fills in the sizes of the model that the method's file records; nothing by default.
  ///
  /// - Throws: ``AdapterError`` when the settings name those of another model.
  mutating func complete(for model: any PretrainedModel) throws

  /// A new adapter for `model`, initialised but not yet in use.
  ///
  /// - Throws: ``AdapterError`` when the settings do not fit the model.
  func makeAdapter(for model: any PretrainedModel) throws -> any Adapter
}

/// What the configurations of all methods have.
public struct CommonAdapterSettings: Sendable, Hashable {
  /// Path or name of the base model.
  public var baseModelNameOrPath: String?
  public var revision: String?
  /// `CAUSAL_LM`, `SEQ_CLS`, …
  public var taskType: String?
  /// Modules trained in full and stored with the adapter, by the end of their name.
  public var modulesToSave: [String]?
  /// Whether tied embeddings stay tied when one of them is trained; an option of the methods that have it.
  public var ensureWeightTying: Bool

  public init(
    baseModelNameOrPath: String? = nil, revision: String? = nil, taskType: String? = "CAUSAL_LM",
    modulesToSave: [String]? = nil, ensureWeightTying: Bool = false
  ) {
    self.baseModelNameOrPath = baseModelNameOrPath
    self.revision = revision
    self.taskType = taskType
    self.modulesToSave = modulesToSave
    self.ensureWeightTying = ensureWeightTying
  }

  /// The keys that every `adapter_config.json` may have.
  static let keys: Set<String> = [
    "auto_mapping", "base_model_name_or_path", "inference_mode", "modules_to_save", "peft_type",
    "peft_version", "revision", "task_type",
  ]

  /// The options of every method among them, for the methods' lists.
  static let options: [AdapterOption] = [
    .init(
      "modules_to_save", .optional(.list(.string)), default: nil,
      "Modules that are trained in full and saved with the adapter, such as a new head."),
    .init(
      "task_type", .choice(ModelTask.allCases.map(\.taskType)), default: "CAUSAL_LM",
      "What the model is for: `CAUSAL_LM` writes text, `SEQ_CLS` gives texts labels or numbers; its new head is trained and "
        + "saved with the adapter."),
  ]

  init(_ fields: AdapterFields) throws {
    baseModelNameOrPath = try fields.string("base_model_name_or_path")
    revision = try fields.string("revision")
    taskType = try fields.string("task_type")
    modulesToSave = try fields.strings("modules_to_save")
    ensureWeightTying = false
  }

  /// Adds the heads that a task's models may have to ``modulesToSave``, as PEFT does for those that start at random.
  mutating func saveHead(of task: ModelTask) {
    guard task != .causalLM else { return }
    let saved = modulesToSave ?? []
    modulesToSave = saved + task.headNames.filter { !saved.contains($0) }
  }

  var fields: OrderedDictionary<String, JSONValue> {
    [
      "auto_mapping": .null,
      "base_model_name_or_path": baseModelNameOrPath.map(JSONValue.string) ?? .null,
      "inference_mode": true,
      "modules_to_save": modulesToSave.map { .array($0.map(JSONValue.string)) } ?? .null,
      "peft_version": "0.21.2",
      "revision": revision.map(JSONValue.string) ?? .null,
      "task_type": taskType.map(JSONValue.string) ?? .null,
    ]
  }
}

extension AdapterConfiguration {
  public static var obstacleToCombining: String { "whose changes do not add up to one of the same form" }
  public static var learnedFields: Set<String> { [] }
  public static var tunerName: String { method.peftType.capitalized + "Model" }
  public var virtualTokenCount: Int { 0 }
  public mutating func encodeTexts(_ encode: (String) throws -> [Int32]) throws {}
  public mutating func complete(for model: any PretrainedModel) throws {}

  /// `adapter_config.json` as PEFT writes it: indented by two, keys sorted.
  public var json: String {
    var fields = common.fields
    fields["peft_type"] = .string(Self.method.peftType)
    for (key, value) in ownFields { fields[key] = value }
    return JSONValue.object(fields).serialized(indent: 2, sortedKeys: true)
  }
}

/// A parameter-efficient method: its name in files, its options, and how they are read.
///
/// A method is one file in `Methods` and one line in ``catalogue``; the shared test suite runs over the catalogue.
public struct AdapterMethod: Sendable {
  /// `peft_type`, in capitals.
  public let peftType: String
  /// What the method does, one sentence in Markdown.
  public let summary: String
  /// The options that a user may set.
  public let options: [AdapterOption]
  /// Fields that PEFT writes and that have no meaning by themselves, such as a size of something that is off.
  let inertFields: Set<String>
  let decode: @Sendable (AdapterFields) throws -> any AdapterConfiguration

  /// - Parameter decode: reads the options, and throws ``AdapterError`` about values that cannot be meant.
  public init(
    peftType: String, summary: String, options: [AdapterOption], inertFields: Set<String> = [],
    decode: @escaping @Sendable (AdapterFields) throws -> any AdapterConfiguration
  ) {
    self.peftType = peftType
    self.summary = summary
    self.options = options
    self.inertFields = inertFields
    self.decode = decode
  }

  /// Whether modules can be trained in full beside what the method does. Full fine-tuning has nothing beside it.
  var savesModules: Bool { options.contains { $0.name == "modules_to_save" } }

  /// The value of `peft_method` in a configuration file.
  public var name: String { peftType.lowercased() }

  /// Every method that Graft has.
  public static let catalogue: [AdapterMethod] = [
    LoRAConfig.method,
    AdaLoRAConfig.method,
    VeRAConfig.method,
    LoHaConfig.method,
    LoKrConfig.method,
    OFTConfig.method,
    BOFTConfig.method,
    IA3Config.method,
    BottleneckConfig.method,
    PromptTuningConfig.method,
    PromptEncoderConfig.method,
    PrefixTuningConfig.method,
    LNTuningConfig.method,
    BitFitConfig.method,
    FullFineTuningConfig.method,
  ]

  /// The method called `peftType`, in any case.
  public static func named(_ peftType: String, in source: String) throws -> AdapterMethod {
    guard let method = catalogue.first(where: { $0.peftType == peftType.uppercased() }) else {
      let known = catalogue.map(\.peftType).joined(separator: ", ")
      throw AdapterError(
        "\(source) asks for the method `\(peftType)`, which Graft does not have; it has \(known).")
    }
    return method
  }

  /// The configuration that `fields` describe.
  ///
  /// - Throws: ``AdapterError`` for a value of the wrong kind, or a key that is not the method's and asks for something.
  public func configuration(_ fields: AdapterFields) throws -> any AdapterConfiguration {
    let known = inertFields.union(CommonAdapterSettings.keys).union(options.map(\.name))
    try fields.rejectUnknown(known: known, method: peftType)
    return try decode(fields)
  }
}
